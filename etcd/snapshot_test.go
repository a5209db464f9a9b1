package etcd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/myadm/myadm/etcd/etcdtest"
)

// fill puts keys of 1 KiB.
func fill(t *testing.T, m *etcdtest.Member, keys int) {
	t.Helper()
	e, err := clientv3.New(clientv3.Config{Endpoints: []string{m.ClientURL()}, DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for i := range keys {
		if _, err := e.Put(t.Context(), fmt.Sprintf("key-%d", i), strings.Repeat("x", 1024)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSnapshot(t *testing.T) {
	m := etcdtest.New(t).Start("cp-1")
	fill(t, m, 200)
	c := connect(t, Options{Endpoints: []string{m.ClientURL()}})
	var got bytes.Buffer
	var told []int64
	info, err := c.Snapshot(t.Context(), &got, func(n, _ int64) { told = append(told, n) })
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(got.Bytes())
	if info.Bytes != int64(got.Len()) || info.SHA256 != hex.EncodeToString(sum[:]) || info.Revision != 201 ||
		info.Member != m.ClientURL() || !strings.HasPrefix(info.Version, "3.") {
		t.Errorf("%+v of %d bytes", info, got.Len())
	}
	if len(told) < 2 || !slices.IsSorted(told) || told[len(told)-1] != info.Bytes {
		t.Errorf("progress: %v", told)
	}
	again, err := VerifySnapshot(bytes.NewReader(got.Bytes()), info.Bytes)
	if err != nil || again.Bytes != info.Bytes || again.SHA256 != info.SHA256 {
		t.Errorf("%+v, %v", again, err)
	}
	member, err := os.ReadFile(m.Dir + "/member/snap/db")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifySnapshot(bytes.NewReader(member), int64(len(member))); !errors.Is(err, ErrNoHash) {
		t.Errorf("a member's database: %v", err)
	}
}

// full fails after some bytes, as a disk does.
type full struct{ left int }

var errFull = errors.New("no space left")

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestSnapshotFails(t *testing.T) {
	m := etcdtest.New(t).Start("cp-1")
	fill(t, m, 200)
	t.Run("when it cannot be written", func(t *testing.T) {
		c := connect(t, Options{Endpoints: []string{m.ClientURL()}})
		if _, err := c.Snapshot(t.Context(), &full{left: 40 << 10}, nil); !errors.Is(err, errFull) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("when ctx ends", func(t *testing.T) {
		c := connect(t, Options{Endpoints: []string{m.ClientURL()}})
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := c.Snapshot(ctx, io.Discard, func(int64, int64) { cancel() }); err == nil {
			t.Error("no error")
		}
	})
	t.Run("when the stream is cut", func(t *testing.T) {
		var last atomic.Pointer[net.Conn]
		c := connect(t, Options{Endpoints: []string{m.ClientURL()}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			last.Store(&conn)
			return conn, err
		}})
		cut := func(int64, int64) { (*last.Load()).Close() }
		if info, err := c.Snapshot(t.Context(), io.Discard, cut); err == nil {
			t.Errorf("a cut snapshot is taken for %+v", info)
		}
	})
}

// lying is an etcd that sends something else than what it has.
type lying struct {
	etcdserverpb.UnimplementedMaintenanceServer
	sends []byte
}

func (l *lying) Status(context.Context, *etcdserverpb.StatusRequest) (*etcdserverpb.StatusResponse, error) {
	return &etcdserverpb.StatusResponse{}, nil
}

func (l *lying) Snapshot(_ *etcdserverpb.SnapshotRequest, stream etcdserverpb.Maintenance_SnapshotServer) error {
	return stream.Send(&etcdserverpb.SnapshotResponse{Blob: l.sends})
}

// A snapshot that was damaged on the way, or that ends early without a word, is none.
func TestSnapshotIsVerified(t *testing.T) {
	good := withHash(database(2))
	flipped := slices.Clone(good)
	flipped[5000] ^= 1
	for _, tt := range []struct {
		name  string
		sends []byte
		want  error
	}{{"whole", good, nil}, {"damaged", flipped, ErrSnapshotHash}, {"cut", good[:4096], ErrNoHash}, {"nothing", nil, ErrNoHash}} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := grpc.NewServer()
			etcdserverpb.RegisterMaintenanceServer(server, &lying{sends: tt.sends})
			served := make(chan error, 1)
			go func() { served <- server.Serve(l) }()
			t.Cleanup(func() {
				server.Stop()
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
			c := connect(t, Options{Endpoints: []string{"http://" + l.Addr().String()}})
			if _, err := c.Snapshot(t.Context(), io.Discard, nil); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// database is what is enough of one for its check: the first page's header, the magic number, and whole pages.
func database(pages int) []byte {
	db := make([]byte, pages*4096)
	binary.LittleEndian.PutUint32(db[boltMagicAt:], boltMagic)
	for i := boltMagicAt + 4; i < len(db); i++ {
		db[i] = byte(i * 7)
	}
	return db
}

func withHash(db []byte) []byte {
	sum := sha256.Sum256(db)
	return append(slices.Clone(db), sum[:]...)
}

func TestVerifySnapshot(t *testing.T) {
	good := withHash(database(3))
	flipped := slices.Clone(good)
	flipped[5000] ^= 1
	wrongHash := slices.Clone(good)
	wrongHash[len(good)-1] ^= 1
	for _, tt := range []struct {
		name string
		data []byte
		want error
	}{
		{"good", good, nil},
		{"small pages", withHash(database(1)[:512]), nil},
		{"a bit has flipped", flipped, ErrSnapshotHash},
		{"a bit of the hash has flipped", wrongHash, ErrSnapshotHash},
		{"a member's database", database(3), ErrNoHash},
		{"cut within a page", good[:7000], ErrNoHash},
		{"cut within the hash", good[:len(good)-1], ErrNoHash},
		{"cut to what could be a whole one", good[:4096+32], ErrSnapshotHash},
		{"nothing", nil, ErrNotSnapshot},
		{"a text", []byte(strings.Repeat("apiVersion: v1\n", 100)), ErrNotSnapshot},
		{"the hash alone", good[len(good)-32:], ErrNotSnapshot},
	} {
		t.Run(tt.name, func(t *testing.T) {
			info, err := VerifySnapshot(bytes.NewReader(tt.data), int64(len(tt.data)))
			if !errors.Is(err, tt.want) || err == nil && info.Bytes != int64(len(tt.data)) {
				t.Errorf("%+v, %v, want %v", info, err, tt.want)
			}
		})
	}
}

// Whatever is not exactly a database and its hash is refused, however it arrives.
func FuzzVerifySnapshot(f *testing.F) {
	good := withHash(database(1)[:512])
	f.Add(good, 1)
	f.Add(good[:100], 7)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		info, err := VerifySnapshot(bytes.NewReader(data), int64(len(data)))
		s := newSealed()
		for rest := data; len(rest) > 0; {
			n := min(max(piece, 1), len(rest))
			if _, err := s.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		pieces := s.verify(int64(len(data)))
		if err == nil && (pieces != nil || info.Bytes != int64(len(data))) {
			t.Errorf("whole: %+v, in pieces of %d: %v", info, piece, pieces)
		}
		if err == nil {
			body, hash := data[:len(data)-trailerBytes], data[len(data)-trailerBytes:]
			if sum := sha256.Sum256(body); !bytes.Equal(sum[:], hash) {
				t.Error("a wrong hash is taken")
			}
		}
		if pieces == nil && err != nil && !errors.Is(err, ErrNotSnapshot) {
			t.Errorf("whole: %v, in pieces of %d: good", err, piece)
		}
	})
}
