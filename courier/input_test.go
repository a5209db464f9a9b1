package courier

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/courier/wire"
)

func blobSum(n int) string { return fmt.Sprintf("%064x", n) }

// What is offered by many at once arrives whole, after the request, and before the end.
func TestServeCommand(t *testing.T) {
	request := &wire.Serve{Address: "a:1", Certificate: "c", Key: "k", Token: "t"}
	cmd, offer, end, err := ServeCommand("/run/courier", request)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/run/courier", "serve"}, cmd.Argv); diff != "" {
		t.Error(diff)
	}
	const early, late = 50, 50 // some before anybody reads
	want := map[string]string{}
	var all sync.WaitGroup
	offerOne := func(n int) {
		want[blobSum(n)] = fmt.Sprintf("/blob/%d", n)
		all.Go(func() {
			if err := offer(map[string]string{blobSum(n): fmt.Sprintf("/blob/%d", n)}); err != nil {
				t.Error(err)
			}
		})
	}
	for n := range early {
		offerOne(n)
	}
	all.Wait()
	in := wire.NewInput(cmd.Stdin)
	if got, err := in.Request("serve"); err != nil || !cmp.Equal(wire.Request(request), got) {
		t.Fatalf("%#v, %v", got, err)
	}
	for n := range late {
		offerOne(early + n)
	}
	got := map[string]string{}
	for range early + late {
		o, err := in.Offer()
		if err != nil || len(o.Blobs) != 1 {
			t.Fatalf("%v, %v", o, err)
		}
		for sum, path := range o.Blobs {
			got[sum] = path
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	all.Wait()
	waiting := make(chan error, 1)
	go func() {
		_, err := in.Offer()
		waiting <- err
	}()
	end()
	end()
	if err := <-waiting; !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if err := offer(nil); err == nil || !strings.Contains(err.Error(), "was ended") {
		t.Error(err)
	}
}

func TestServeCommandRefuses(t *testing.T) {
	if _, _, _, err := ServeCommand("/run/courier", &wire.Serve{}); err == nil || !strings.Contains(err.Error(), "courier serve: ") {
		t.Error(err)
	}
	cmd, offer, end, err := ServeCommand("/run/courier", &wire.Serve{Address: "a:1", Certificate: "c", Key: "k", Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if err := offer(map[string]string{blobSum(1): "relative"}); err == nil || !strings.Contains(err.Error(), "not absolute") {
		t.Error(err)
	}
	// Nobody reads: what waits is bounded, and nobody is kept waiting.
	long := "/" + strings.Repeat("x", 1<<20)
	for n := 0; err == nil; n++ {
		if n > maxWaiting>>20 {
			t.Fatal("there is no bound")
		}
		err = offer(map[string]string{blobSum(n): long})
	}
	if !strings.Contains(err.Error(), "hint: it may be gone") {
		t.Error(err)
	}
	// The end is told after what was offered, and that after the request.
	end()
	all, err := io.ReadAll(cmd.Stdin)
	if err != nil || strings.Count(string(all), "\n") != maxWaiting>>20 {
		t.Errorf("%d lines, %v", strings.Count(string(all), "\n"), err)
	}
	for line := range strings.Lines(string(all)) {
		if !json.Valid([]byte(line)) {
			t.Errorf("%.80s", line)
		}
	}
}
