package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/e2e/lab"
	"github.com/myadm/myadm/e2e/lab/mirror"
	"github.com/myadm/myadm/e2e/lab/mirror/mirrortest"
)

// run runs a lab command and returns its standard output.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := newCommand()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// serveMirror runs the mirror of a lab's folder until the test ends, by the hidden command, and returns its URL.
func serveMirror(t *testing.T, dir string) string {
	t.Helper()
	folder := filepath.Join(dir, lab.MirrorDir)
	options := mirror.Options{Dir: t.TempDir(), Bundles: []string{mirrortest.Bundle(t, "v1.37.2", "amd64")}}
	if err := mirror.Prepare(folder, options); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := run(t, "mirror", "serve", folder)
		ended <- err
	}()
	t.Cleanup(func() {
		if err := errors.Join(lab.StopMirror(context.Background(), dir), <-ended); err != nil {
			t.Error(err)
		}
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if s, err := lab.MirrorOf(dir); err == nil {
			return s.URL
		}
		select {
		case <-tick.C:
		case err := <-ended:
			ended <- err
			t.Fatalf("it ended: %v", err)
		}
	}
}

func TestMirrorFaultAndStats(t *testing.T) {
	dir := t.TempDir()
	url := serveMirror(t, dir)
	status := func() int {
		t.Helper()
		response, err := http.Get(url + "/dl.k8s.io/release/stable.txt")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatal(err)
		}
		return response.StatusCode
	}
	if _, err := run(t, "mirror", "fault", "unavailable", "**/stable.txt", "--times", "7", "--client", "127.*", "--dir", dir); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != http.StatusServiceUnavailable {
		t.Errorf("with a fault: %d", got)
	}
	const want = `{"path":"**/stable.txt","client":"127.*","kind":"unavailable","times":6}` + "\n"
	if got, err := run(t, "mirror", "fault", "--dir", dir); err != nil || got != want {
		t.Errorf("faults: %s, %v; want %s", got, err, want)
	}
	if _, err := run(t, "mirror", "fault", "--heal", "--dir", dir); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != http.StatusOK {
		t.Errorf("healed: %d", got)
	}
	out, err := run(t, "mirror", "stats", "--reset", "--dir", dir)
	lines := []string{"REQUESTS BYTES", "2 34 all", "2 34 127.0.0.1", "2 34 /dl.k8s.io/release/stable.txt"}
	if diff := cmp.Diff(lines, fields(out)); diff != "" || err != nil {
		t.Errorf("stats (-want +got):\n%s%v", diff, err)
	}
	if out, err := run(t, "mirror", "stats", "--json", "--dir", dir); err != nil || !strings.HasPrefix(out, `{"total":{"requests":0,"bytes":0},`) {
		t.Errorf("stats after a reset: %s, %v", out, err)
	}
	if _, err := run(t, "mirror", "down", "--dir", dir); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "mirror", "stats", "--dir", dir); !errors.Is(err, mirror.ErrNotRunning) {
		t.Errorf("stats of none: %v", err)
	}
}

// fields are a table's lines with single spaces.
func fields(table string) []string {
	var lines []string
	for line := range strings.Lines(table) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return lines
}

func TestParsePairs(t *testing.T) {
	got, err := parsePairs("as", []string{"runc=v1.5.2", "runc=v1.4.0", "containerd=v2.3.0"})
	want := map[string][]string{"runc": {"v1.5.2", "v1.4.0"}, "containerd": {"v2.3.0"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("(-want +got):\n%s%v", diff, err)
	}
	for _, wrong := range []string{"runc", "=v1", "runc="} {
		if _, err := parsePairs("as", []string{wrong}); err == nil || !strings.Contains(err.Error(), "--as "+wrong+": want KEY=VALUE") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
