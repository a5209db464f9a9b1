package delivery

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myadm/myadm/host"
)

// script is a program that stands where the courier does: it can be run, and does not do what it should.
func (w *world) script(d *Delivery, body string) {
	const runs = `#!/bin/sh
read line
if [ "$1 $line" = 'probe {"targets":null,"net":{"proxy":{}}}' ]; then echo '{"done":{"received":0,"failed":0}}'; exit; fi
`
	d.packed = func(string) ([]byte, error) { return gzipped([]byte(runs + body)), nil }
}

// A courier that cannot be run is one that is not there: in auto, all is sent.
func TestDoesNotRun(t *testing.T) {
	for _, content := range []string{"no program", "#!/none\n", "#!/bin/sh\necho Welcome\n", "#!/bin/sh\nexit 7\n"} {
		w := newWorld(t, 3)
		m := w.machines[0]
		for _, way := range []Way{Peer, Auto} {
			d := w.delivery(Options{Way: way})
			d.packed = func(string) ([]byte, error) { return gzipped([]byte(content)), nil }
			err := w.files(d, m, "kubelet")
			if way == Auto && err != nil {
				t.Error(err)
			}
			if want := "run the courier: "; way == Peer && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "noexec")) {
				t.Errorf("%q: %v; want %s", content, err, want)
			}
			w.close(d)
		}
		w.warned("all is sent from here: run the courier")
	}
}

// A program that is there and does not run, as after a power failure, is put there anew. One that runs stays.
func TestInstalled(t *testing.T) {
	w := newWorld(t, 3)
	m := w.machines[0]
	for _, damaged := range []bool{true, false} {
		d := w.delivery(Options{Way: Peer})
		s := d.site(m.host())
		file, err := s.install(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if damaged {
			if err := os.Truncate(file, 0); err != nil {
				t.Fatal(err)
			}
		}
		m.argvs = nil
		if _, err := s.install(w.ctx); err != nil {
			t.Fatal(err)
		}
		if put := slices.ContainsFunc(m.argvs, func(argv []string) bool { return argv[0] == "sh" }); put != damaged {
			t.Errorf("damaged: %v; %q", damaged, m.argvs)
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode() != 0o700 || info.Size() == 0 {
			t.Errorf("%+v, %v", info, err)
		}
		if dir, err := os.Stat(m.dir); err != nil || dir.Mode().Perm() != 0o700 {
			t.Errorf("%+v, %v", dir, err)
		}
	}
}

// A server that never is one is an error to those who ask it, and leaves nothing behind.
func TestServeFails(t *testing.T) {
	for _, test := range []struct{ body, want string }{
		{"exit 3", "exit status 3"},
		{`echo '{"done":{"received":0,"failed":0}}'`, "the courier has ended"},
		{`echo '{"error":{"text":"address in use"}}'; exit 1`, "serve other hosts: address in use"},
		{"echo Welcome", "hint: something on the host prints"},
	} {
		w := newWorld(t, 1)
		d := w.delivery(Options{Way: Peer})
		w.script(d, test.body)
		s := d.site(w.machines[0].host())
		if _, err := s.source(w.ctx, hexSum(nil), "/none"); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %s", test.body, err, test.want)
		}
		w.close(d)
	}
}

// Whoever made a server start may go before it has. It ends then, also one that does not listen.
func TestServeCancelled(t *testing.T) {
	w := newWorld(t, 1)
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	m := w.machines[0]
	d := w.delivery(Options{Way: Peer})
	w.script(d, "exec sleep 100")
	m.meddle = func(_ context.Context, cmd host.Cmd) {
		if cmd.Argv[len(cmd.Argv)-1] == "serve" {
			cancel()
		}
	}
	if _, err := d.site(m.host()).source(ctx, hexSum(nil), "/none"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.close(d)
}

// A server that has ended is not pointed to any more, and one that tells its address twice holds nobody up.
func TestServerEnds(t *testing.T) {
	w := newWorld(t, 1)
	d := w.delivery(Options{Way: Peer})
	w.script(d, `echo '{"listening":{"address":"127.0.0.1:1"}}'; echo '{"listening":{"address":"127.0.0.1:2"}}'; exec cat >/dev/null`)
	s := d.site(w.machines[0].host())
	source, err := s.source(w.ctx, hexSum(nil), "/a")
	if err != nil || !strings.HasPrefix(source.URL, "https://127.0.0.1:1/") {
		t.Errorf("%s, %v", source.URL, err)
	}
	v, err := s.server.get(w.ctx, s.serve)
	if err != nil {
		t.Fatal(err)
	}
	v.end()
	<-v.ended
	if _, err := s.source(w.ctx, hexSum(nil), "/a"); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Error(err)
	}
	w.close(d)
}

// A server that does not end when it is told to is ended, and its folder is removed all the same.
func TestServerHangs(t *testing.T) {
	w := newWorld(t, 1)
	m := w.machines[0]
	d := w.delivery(Options{Way: Peer})
	w.script(d, `echo '{"listening":{"address":"127.0.0.1:1"}}'; exec sleep 100`)
	s := d.site(m.host())
	if _, err := s.source(w.ctx, hexSum(nil), "/a"); err != nil {
		t.Fatal(err)
	}
	v, err := s.server.get(w.ctx, s.serve)
	if err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(w.ctx)
	end()
	began := time.Now()
	if v.close(ended); time.Since(began) > 20*time.Second {
		t.Error("it took long")
	}
	w.close(d)
	if left := m.under(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A courier that ends well and says nothing of a blob has not brought it.
func TestNothingSaid(t *testing.T) {
	for _, way := range []Way{Auto, Download, Peer} {
		w := newWorld(t, 2)
		o := newOrigin(w)
		m := w.machines[1]
		d := w.delivery(o.options(way, o.URL))
		if err := w.files(d, w.machines[0], "kubelet"); err != nil {
			t.Fatal(err)
		}
		w.script(d, `echo '{"done":{"received":0,"failed":0}}'`)
		err := w.files(d, m, "kubelet")
		if way == Download {
			if err == nil || !strings.Contains(err.Error(), "fetch kubelet") || !strings.Contains(err.Error(), "has said nothing of it") {
				t.Error(err)
			}
		} else if n := m.total(); err != nil || n != blobSize {
			t.Errorf("%d bytes were sent, %v", n, err)
		} else {
			w.warned("has said nothing of it")
		}
		w.close(d)
	}
}
