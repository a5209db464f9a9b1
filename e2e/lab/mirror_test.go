package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/e2e/lab/mirror"
	"github.com/myadm/myadm/e2e/lab/mirror/mirrortest"
)

// serveMirror is set where the tests' binary is to be a mirror's process.
const serveMirror = "MYADM_LAB_TEST_MIRROR"

func TestMain(m *testing.M) {
	if os.Getenv(serveMirror) != "" {
		if err := mirror.Serve(context.Background(), os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// newMirrorLab is a lab without hosts, as far as its mirror needs one.
func newMirrorLab(t *testing.T) *Lab {
	t.Helper()
	t.Setenv("MYADM_LAB_CACHE", t.TempDir())
	t.Setenv(serveMirror, "1")
	dir, err := canonical(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeMirror(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	return &Lab{Dir: dir, id: labID(dir), Hosts: []Host{{Name: "h1", Address: netip.MustParseAddr("10.89.3.11")}}}
}

// A mirror outlives the command that started it, is found by its lab's folder, and goes with the lab.
func TestMirrorProcess(t *testing.T) {
	l := newMirrorLab(t)
	if _, err := MirrorOf(l.Dir); !errors.Is(err, mirror.ErrNotRunning) {
		t.Errorf("before: %v", err)
	}
	options := MirrorOptions{Bundles: []string{mirrortest.Bundle(t, "v1.37.2", "amd64")}, Listen: "127.0.0.1:0", Prefix: "up"}
	s, err := l.StartMirror(t.Context(), options, os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if s.PID == os.Getpid() {
		t.Error("it is no process of its own")
	}
	response, err := http.Get(s.URL + "/dl.k8s.io/release/stable.txt")
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", response, err)
	}
	response.Body.Close()
	if found, err := MirrorOf(l.Dir); err != nil || found != s {
		t.Errorf("found %+v, %v", found, err)
	}
	if _, err := l.StartMirror(t.Context(), options, os.Args[0]); err == nil || !strings.Contains(err.Error(), "one runs already") {
		t.Errorf("started twice: %v", err)
	}
	if err := StopMirror(t.Context(), l.Dir); err != nil {
		t.Fatal(err)
	}
	if response, err := http.Get(s.URL); err == nil {
		response.Body.Close()
		t.Error("stopped, it still serves")
	}
	if s, err = l.StartMirror(t.Context(), options, os.Args[0]); err != nil {
		t.Fatal(err)
	}
	if err := removeMirror(t.Context(), l.Dir); err != nil {
		t.Fatal(err)
	}
	store, err := mirrorStore(l.id)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{store, l.Path(MirrorDir)} {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}

func TestMirrorThatCannotStart(t *testing.T) {
	l := newMirrorLab(t)
	_, err := l.StartMirror(t.Context(), MirrorOptions{Bundles: []string{"/nowhere"}, Listen: "127.0.0.1:0"}, os.Args[0])
	if err == nil || !strings.Contains(err.Error(), "ended: exit status 1; hint: see "+l.Path("mirror/log")) {
		t.Errorf("got %v", err)
	}
	if log, err := os.ReadFile(l.Path("mirror/log")); err != nil || !strings.Contains(string(log), "bundle /nowhere: no such file") {
		t.Errorf("the log has %q, %v", log, err)
	}
}

func TestMirrorOptions(t *testing.T) {
	l := newMirrorLab(t)
	dir := t.TempDir()
	t.Chdir(dir)
	got, err := l.mirrorOptions(MirrorOptions{Bundles: []string{"b"}, TLS: true, Auth: true}, "/lab/mirror")
	if err != nil {
		t.Fatal(err)
	}
	password := got.Password
	if got.Password = ""; len(password) < 20 {
		t.Errorf("password %q", password)
	}
	store, err := mirrorStore(l.id)
	if err != nil {
		t.Fatal(err)
	}
	want := mirror.Options{
		Dir: store, Bundles: []string{filepath.Join(dir, "b")}, Listen: "10.89.3.1:5000", TLSDir: "/lab/mirror", Username: MirrorUser,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
