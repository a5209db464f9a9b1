package phases

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/workflow"
)

// receiver is a host that takes what receiveScript and mv do with it.
func receiver(t *testing.T) *hosttest.Fake {
	f := hosttest.New(t, "cp-1")
	f.OnPrefix("sh", "-c", receiveScript, "sh").Changes().Do(func(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		data, err := io.ReadAll(cmd.Stdin)
		f.Put(host.File{Path: cmd.Argv[4], Mode: 0o600, Data: data})
		return nil, err
	})
	f.OnPrefix("mv", "-T").Changes().Do(func(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		file, _ := f.Get(cmd.Argv[2])
		f.Delete(cmd.Argv[2])
		file.Path = cmd.Argv[3]
		f.Put(file)
		return nil, nil
	})
	return f
}

const (
	backupFile = "/var/backups/etcd.db"
	backupPart = "/var/backups/.etcd.db.myadm-part"
)

func TestSaveOnHost(t *testing.T) {
	for _, tt := range []struct {
		name    string
		file    string
		prepare func(f *hosttest.Fake)
		write   func(w io.Writer) error
		want    string // of the error
	}{
		{"whole", backupFile, nil, nil, ""},
		{"when there is nothing to write", backupFile, nil, func(io.Writer) error { return errors.New("etcd has gone") }, "etcd has gone"},
		{"when it is cut", backupFile, nil, func(w io.Writer) error {
			_, err := io.WriteString(w, "half")
			return errors.Join(err, errors.New("etcd has gone"))
		}, "etcd has gone"},
		{"when the disk is full", backupFile, func(f *hosttest.Fake) {
			f.OnPrefix("sh", "-c", receiveScript, "sh").Changes().Fail(1, "cat: write error: No space left on device")
		}, nil, "cp-1: write " + backupPart},
		{"when the disk lies", backupFile, func(f *hosttest.Fake) {
			f.OnPrefix("sh", "-c", receiveScript, "sh").Changes().Do(func(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
				f.Put(host.File{Path: cmd.Argv[4], Mode: 0o600, Data: []byte("something else")})
				return nil, nil
			})
		}, nil, "is not what was sent; hint:"},
		{"a path that is none", "etcd.db", nil, nil, "not absolute"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := receiver(t)
			if tt.prepare != nil {
				tt.prepare(f)
			}
			if tt.write == nil {
				tt.write = func(w io.Writer) error { return write64(w, "all of it") }
			}
			err := SaveOnHost(f, tt.file)(t.Context(), tt.write)
			_, part := f.Get(backupPart)
			file, there := f.Get(backupFile)
			if tt.want == "" {
				if err != nil || string(file.Data) != strings.Repeat("all of it", 64) || part {
					t.Errorf("%q, %v, and a part: %v", file.Data, err, part)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if there || part {
				t.Errorf("%q and a part (%v) are left", file.Data, part)
			}
		})
	}
}

// write64 writes a text in 64 pieces.
func write64(w io.Writer, text string) error {
	for range 64 {
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}

func TestEtcdBackup(t *testing.T) {
	c, _, _ := members(t, "cp-1")
	var got bytes.Buffer
	var info etcd.SnapshotInfo
	save := func(_ context.Context, write func(io.Writer) error) error { return write(&got) }
	var last workflow.Event
	runner := workflow.Runner{Report: func(e workflow.Event) {
		if e.Kind == workflow.Progress {
			last = e
		}
	}}
	if _, err := runner.Run(t.Context(), EtcdBackup(c, "etcd.db", save, &info)); err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.VerifySnapshot(bytes.NewReader(got.Bytes()), info.Bytes); err != nil {
		t.Error(err)
	}
	if last.Done != info.Bytes || last.Total != info.Bytes {
		t.Errorf("progress ends at %d of %d bytes, and there are %d", last.Done, last.Total, info.Bytes)
	}
}

func TestEtcdBackupFails(t *testing.T) {
	c, all := controls(t, "cp-1")
	all[0].OnDial(func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") })
	var info etcd.SnapshotInfo
	save := func(_ context.Context, write func(io.Writer) error) error { return write(io.Discard) }
	for _, tt := range []struct {
		c    *cluster.Cluster
		want string
	}{{c, "connection refused"}, {&cluster.Cluster{Config: c.Config}, "hint: run myadm init first"}} {
		_, err := new(workflow.Runner).Run(t.Context(), EtcdBackup(tt.c, "etcd.db", save, &info))
		if err == nil || !strings.Contains(err.Error(), tt.want) || info.Bytes > 0 {
			t.Errorf("%+v, %v, want %s", info, err, tt.want)
		}
	}
}
