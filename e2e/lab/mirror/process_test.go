package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/myadm/myadm/e2e/lab/mirror"
	"github.com/myadm/myadm/e2e/lab/mirror/mirrortest"
)

// serve runs a mirror as its process does and waits until it serves.
func serve(ctx context.Context, t *testing.T, dir string) (mirror.State, <-chan error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- mirror.Serve(ctx, dir) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := mirror.Running(dir)
		if err == nil {
			return s, ended
		}
		select {
		case err := <-ended:
			t.Fatalf("it ended: %v", err)
		case <-tick.C:
		}
	}
}

func TestServeAndStop(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mirror")
	if _, err := mirror.Running(dir); !errors.Is(err, mirror.ErrNotRunning) {
		t.Errorf("before: %v", err)
	}
	options := mirror.Options{
		Dir: t.TempDir(), Bundles: []string{mirrortest.Bundle(t, "v1.37.2", "amd64")}, Prefix: "up", Username: "lab", Password: "open sesame",
	}
	if err := mirror.Prepare(dir, options); err != nil {
		t.Fatal(err)
	}
	s, ended := serve(t.Context(), t, dir)
	if !strings.HasSuffix(s.URL, "/up") || s.Username != "lab" || s.Password != "open sesame" || s.PID != os.Getpid() {
		t.Errorf("state %+v", s)
	}
	if err := mirror.Prepare(dir, options); err == nil || !strings.Contains(err.Error(), "one runs already; hint: lab mirror down") {
		t.Errorf("prepared again: %v", err)
	}
	if err := mirror.Serve(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "another mirror has the folder") {
		t.Errorf("served twice: %v", err)
	}
	if stats, err := (mirror.Admin{URL: s.AdminURL}).Stats(t.Context()); err != nil || stats.Total.Requests != 0 {
		t.Errorf("stats %+v, %v", stats, err)
	}
	if err := mirror.Stop(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if _, err := mirror.Running(dir); !errors.Is(err, mirror.ErrNotRunning) {
		t.Errorf("afterwards: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "state.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its state is still there: %v", err)
	}
	if err := mirror.Stop(t.Context(), dir); err != nil {
		t.Errorf("stopped twice: %v", err)
	}
}

// What has a password is for its user alone, and a registry client finds it where Docker's configuration is.
func TestServedPassword(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mirror")
	options := mirror.Options{Dir: t.TempDir(), Bundles: []string{mirrortest.Bundle(t, "v1.37.2", "amd64")}, Username: "lab", Password: "open sesame"}
	if err := mirror.Prepare(dir, options); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, ended := serve(ctx, t, dir)
	for _, name := range []string{"options.json", "state.json", "config.json"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	t.Setenv("DOCKER_CONFIG", dir)
	m := &mirror.Mirror{URL: s.URL}
	if _, err := remote.Image(reference(t, m, pauseImage), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("interrupted: %v", err)
	}
	if response, err := http.Get(s.URL); err == nil {
		response.Body.Close()
		t.Error("it still serves")
	}
}

func TestServeTellsWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	data, err := json.Marshal(mirror.Options{Dir: t.TempDir(), Bundles: []string{"/nowhere"}})
	if err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{"{": "options.json: unexpected end", string(data): "bundle /nowhere: no such file"} {
		if err := os.WriteFile(filepath.Join(dir, "options.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := mirror.Serve(t.Context(), dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
