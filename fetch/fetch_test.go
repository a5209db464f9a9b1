package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myadm/myadm/release"
)

// TestMain also is the other process of TestTwoProcesses: myadm with a mirror and a cache.
func TestMain(m *testing.M) {
	mirror, dir := os.Getenv("FETCH_TEST_MIRROR"), os.Getenv("FETCH_TEST_CACHE")
	if mirror == "" {
		os.Exit(m.Run())
	}
	if err := child(context.Background(), mirror, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(ctx context.Context, mirror, dir string) error {
	f, err := New(ctx, Options{Mirror: mirror, CacheDir: dir})
	if err != nil {
		return err
	}
	all, err := release.Items(version, "amd64")
	if err != nil {
		return err
	}
	_, err = f.Get(ctx, release.Select(all, "runtime"))
	return errors.Join(err, f.Close())
}

// TestGet gets everything for both architectures, and the second run asks nobody for anything.
func TestGet(t *testing.T) {
	w := newWorld(t)
	asked := items(t)
	arm, err := release.Items(version, "arm64")
	if err != nil {
		t.Fatal(err)
	}
	w.pushImages(t, asked)
	asked = append(asked, arm...)
	dir := t.TempDir()
	events := map[string]Event{}
	f := open(t, Options{Mirror: serve(t, w), CacheDir: dir, Progress: func(e Event) { events[e.Item] = e }})
	got, err := f.Get(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	checkGot(t, f, got, asked)
	for item, e := range events {
		if e.Done != e.Total || e.Total <= 0 {
			t.Errorf("%s ended at %d of %d bytes", item, e.Done, e.Total)
		}
	}
	if len(events) < 30 { // archives are told once
		t.Errorf("%d items were told of", len(events))
	}
	for key, n := range w.taken() {
		if data, ok := w.files[key]; ok && n > int64(len(data)) && !strings.Contains(key, "sha256") {
			t.Errorf("%s has %d bytes, and %d were sent", key, len(data), n)
		}
	}
	clear(events)
	again, err := f.Get(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	checkGot(t, f, again, asked)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	g := open(t, Options{Mirror: f.mirror.String(), CacheDir: dir, Progress: func(e Event) { events[e.Item] = e }})
	third, err := g.Get(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	checkGot(t, g, third, asked)
	if taken := w.taken(); len(taken) != 0 || len(events) != 0 {
		t.Errorf("a second run took %v and told of %v", taken, events)
	}
	left, err := filepath.Glob(filepath.Join(dir, "partial", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("partial files are left: %v, %v", left, err)
	}
}

// TestMirrorBelowAPath: the mirror's path goes in front of files and of repositories.
func TestMirrorBelowAPath(t *testing.T) {
	w := newWorld(t)
	asked := items(t, "kubelet", "pause")
	w.pushImages(t, asked)
	mux := http.NewServeMux()
	mux.Handle("/v2/", w)
	mux.Handle("/some/where/", http.StripPrefix("/some/where", w))
	f := open(t, Options{Mirror: serve(t, mux) + "/some/where/"})
	got, err := f.Get(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	checkGot(t, f, got, asked)
	for key := range w.taken() {
		if strings.HasPrefix(key, "/v2/") && key != "/v2/" && !strings.HasPrefix(key, "/v2/some/where/registry.k8s.io/pause/") {
			t.Errorf("the registry was asked for %s", key)
		}
	}
}

// TestTagsAreAskedAgain: what a tag stands for is believed for a day.
func TestTagsAreAskedAgain(t *testing.T) {
	w := newWorld(t)
	asked := items(t, "haproxy")
	w.pushImages(t, asked)
	f := open(t, Options{Mirror: serve(t, w)})
	first, err := f.Get(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	w.pushImages(t, asked) // another image has the tag now
	same, err := f.Get(t.Context(), asked)
	if err != nil || same[0].Digest != first[0].Digest {
		t.Fatalf("digest %s, then %s, %v", first[0].Digest, same[0].Digest, err)
	}
	now := f.now()
	f.now = func() time.Time { return now.Add(tagAge) }
	other, err := f.Get(t.Context(), asked)
	if err != nil || other[0].Digest == first[0].Digest {
		t.Fatalf("a day later the digest is still %s, %v", other[0].Digest, err)
	}
	checkGot(t, f, other, asked)
}

func TestResolve(t *testing.T) {
	w := newWorld(t)
	f := open(t, Options{Mirror: serve(t, w)})
	for text, want := range map[string]string{"v1.36.1": "v1.36.1", "stable": version, "stable-1.37": version, "stable-1.36": "v1.36.3"} {
		if got, err := f.Resolve(t.Context(), text); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", text, got, err, want)
		}
	}
	for text, page := range map[string]string{
		"latest":      "<html>please log in</html>",
		"latest-1.37": "v1.36.3",
		"latest-1":    strings.Repeat("v1.37.2", 1000),
		"latest-1.36": "v1.36.3\nv1.36.4",
	} {
		w.files["dl.k8s.io/release/"+text+".txt"] = []byte(page)
		if got, err := f.Resolve(t.Context(), text); err == nil {
			t.Errorf("%s is %s", text, got)
		}
	}
	for text, want := range map[string]string{
		"newest":     `"newest" is neither a Kubernetes version nor a label; hint: use one such as v1.37.2, or stable, or stable-1.37`,
		"stable-1.9": "404 Not Found; hint: ",
	} {
		if _, err := f.Resolve(t.Context(), text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// TestTwoProcesses: two myadms that want the same at once get it once.
func TestTwoProcesses(t *testing.T) {
	w := newWorld(t)
	mirror, dir := serve(t, w), t.TempDir()
	var running []*exec.Cmd
	var outputs [2]bytes.Buffer // one each: they write at the same time
	for i := range outputs {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "FETCH_TEST_MIRROR="+mirror, "FETCH_TEST_CACHE="+dir, "HOME="+t.TempDir())
		cmd.Stderr = &outputs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	for i, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %s", err, outputs[i].Bytes())
		}
	}
	taken := w.taken()
	for key, n := range taken {
		if size := int64(len(w.files[key])); !strings.Contains(key, "sha256") && n != size {
			t.Errorf("%s has %d bytes, and %d were sent", key, size, n)
		}
	}
	if len(taken) != 6 {
		t.Errorf("they took %v", taken)
	}
	f := open(t, Options{Mirror: mirror, CacheDir: dir})
	asked := release.Select(items(t), "runtime")
	got, err := f.Get(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	checkGot(t, f, got, asked)
	if taken := w.taken(); len(taken) > 0 {
		t.Errorf("something was missing: %v", taken)
	}
}

func TestJobs(t *testing.T) {
	asked := items(t, "pause", "ctr", "kubelet", "containerd", "etcd", "cni-bridge")
	want := [][]int{{0}, {1, 3}, {2}, {4}, {5}}
	if got := jobs(asked); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("jobs %v, want %v", got, want)
	}
}
