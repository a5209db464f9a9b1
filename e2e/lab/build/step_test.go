package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// counter is a step that counts how often it is made.
func counter(name, input string, made *int, needs ...*step) *step {
	return &step{name: name, inputs: []string{input}, needs: needs, make: func(_ context.Context, dir string) error {
		*made++
		return os.WriteFile(filepath.Join(dir, "made"), []byte(input), 0o644)
	}}
}

func testBuilder(t *testing.T) *builder {
	t.Helper()
	b, err := newBuilder(t.Context(), Options{CacheDir: t.TempDir(), ComponentsDir: componentsDir})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustRun(t *testing.T, b *builder, s *step) string {
	t.Helper()
	dir, err := b.run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Nothing is made twice, and a change remakes what depends on it and nothing else.
func TestStepsAreMadeOnce(t *testing.T) {
	b := testBuilder(t)
	var lower, other, upper int
	make := func(input string) *step {
		return counter("upper", "", &upper, counter("lower", input, &lower), counter("other", "", &other))
	}
	first := mustRun(t, b, make("a"))
	if again := mustRun(t, b, make("a")); again != first || lower != 1 || other != 1 || upper != 1 {
		t.Errorf("two runs made %d lower, %d other, %d upper", lower, other, upper)
	}
	if changed := mustRun(t, b, make("b")); changed == first || lower != 2 || other != 1 || upper != 2 {
		t.Errorf("after a change: %d lower, %d other, %d upper made", lower, other, upper)
	}
	if exists(first) {
		t.Error("the step with the older input was not removed")
	}
}

func TestKeptStepsStay(t *testing.T) {
	b := testBuilder(t)
	var made int
	old, recent := counter("bundle", "a", &made), counter("bundle", "b", &made)
	old.keep, recent.keep = time.Hour, time.Hour
	dir := mustRun(t, b, old)
	mustRun(t, b, recent)
	if !exists(dir) {
		t.Fatal("a bundle that may be in use was removed")
	}
	long := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(dir, long, long); err != nil {
		t.Fatal(err)
	}
	newest := counter("bundle", "c", &made)
	newest.keep = time.Hour
	mustRun(t, b, newest)
	if exists(dir) {
		t.Error("a bundle of long ago was kept")
	}
}

// A step that fails or is killed leaves nothing that a later run would take for the result.
func TestFailedStepLeavesNothing(t *testing.T) {
	b := testBuilder(t)
	broken := errors.New("broken")
	s := &step{name: "s", make: func(_ context.Context, dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o644), broken)
	}}
	if _, err := b.run(t.Context(), s); !errors.Is(err, broken) || !strings.Contains(err.Error(), "make s") {
		t.Errorf("error %v", err)
	}
	killed := filepath.Join(b.CacheDir, unfinished+"1")
	if err := os.Mkdir(killed, 0o755); err != nil {
		t.Fatal(err)
	}
	var made int
	dir := mustRun(t, b, counter("s", "", &made))
	if exists(killed) || exists(filepath.Join(dir, "half")) || !exists(filepath.Join(dir, "made")) {
		t.Error("something of the failed or killed run is left")
	}
}

// Many that want the same at once wait for one that makes it; one that is cancelled stops waiting.
func TestOneAtATime(t *testing.T) {
	b := testBuilder(t)
	var made int
	started, finish := make(chan struct{}), make(chan struct{})
	slow := func() *step {
		return &step{name: "slow", make: func(context.Context, string) error {
			made++
			close(started)
			<-finish
			return nil
		}}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := b.run(t.Context(), slow()); err != nil {
			t.Error(err)
		}
	})
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.run(ctx, slow()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting ended with %v", err)
	}
	wg.Go(func() {
		if _, err := b.run(t.Context(), slow()); err != nil {
			t.Error(err)
		}
	})
	close(finish)
	wg.Wait()
	if made != 1 {
		t.Errorf("made %d times", made)
	}
}
