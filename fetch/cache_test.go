package fetch

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// TestPrune deletes what was not used for longest, and refuses while another one uses the cache.
func TestPrune(t *testing.T) {
	dir := t.TempDir()
	c, err := OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var sums []string
	for i, text := range []string{"oldest", "middle", "newest"} {
		b, err := c.put(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(c.blob(b.SHA256), at, at); err != nil {
			t.Fatal(err)
		}
		sums = append(sums, b.SHA256)
	}
	used, err := c.Open(sums[0]) // it is the newest now
	if err != nil {
		t.Fatal(err)
	}
	used.Close()

	f := open(t, Options{CacheDir: dir})
	if _, err := c.Prune(0); !errors.Is(err, errBusy) {
		t.Errorf("another one uses the cache: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err := c.Prune(12); err != nil || p != (Pruned{Files: 1, Deleted: 6, Kept: 12}) {
		t.Errorf("%+v, %v", p, err)
	}
	for i, want := range []bool{true, false, true} {
		if _, ok := c.find(sums[i]); ok != want {
			t.Errorf("blob %d is there: %v", i, ok)
		}
	}
	if p, err := c.Prune(0); err != nil || p.Kept != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	for _, name := range []string{"", "../lock", sums[0] + "x"} {
		if _, err := c.Open(name); err == nil || errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestFullCache: what a run needs stays while it runs, however small the limit, and goes afterwards.
func TestFullCache(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	asked := items(t, "kubelet", "kubectl", "runc")
	f := open(t, Options{Mirror: serve(t, w), CacheDir: dir, CacheLimit: 150 << 10})
	got, err := f.Get(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	checkGot(t, f, got, asked)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.Prune(0)
	if err != nil || p.Deleted > 150<<10 || p.Deleted < 100<<10 {
		t.Errorf("the cache had %d bytes, %v", p.Deleted, err)
	}
}

// TestUse: what was used just now keeps its time, so that a bundle that knows the file need not verify it again.
func TestUse(t *testing.T) {
	c, err := OpenCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := c.put(strings.NewReader("used"))
	if err != nil {
		t.Fatal(err)
	}
	for age, keeps := range map[time.Duration]bool{time.Second: true, 2 * time.Minute: false} {
		at := time.Now().Add(-age)
		if err := os.Chtimes(c.blob(b.SHA256), at, at); err != nil {
			t.Fatal(err)
		}
		if _, ok := c.find(b.SHA256); !ok {
			t.Fatal("it is not there")
		}
		info, err := os.Stat(c.blob(b.SHA256))
		if err != nil || info.ModTime().Equal(at) != keeps {
			t.Errorf("after %v: used %v, then %v, %v", age, at, info.ModTime(), err)
		}
	}
}
