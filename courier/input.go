package courier

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/myadm/myadm/courier/wire"
)

// maxWaiting is how many bytes of offers may wait for a host that reads none, which is gone then.
const maxWaiting = wire.MaxRequest

// input is a program's standard input: lines, as they are added, and an end when it is told. What was added before the end
// is given out before it. A Read that waits ends with the input, and may outlive the command.
type input struct {
	mu      sync.Mutex
	changed sync.Cond
	waiting []byte
	ended   bool
}

func newInput(line []byte) *input {
	in := &input{waiting: line}
	in.changed.L = &in.mu
	return in
}

// Read waits until there is something to give, or the end.
func (in *input) Read(b []byte) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.waiting) == 0 {
		if in.ended {
			return 0, io.EOF
		}
		in.changed.Wait()
	}
	n := copy(b, in.waiting)
	in.waiting = in.waiting[n:]
	return n, nil
}

// offer adds a wire.Offer, and does not wait.
func (in *input) offer(blobs map[string]string) error {
	o := wire.Offer{Blobs: blobs}
	if err := o.Check(); err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	line, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.ended:
		return errors.New("offer: the server was ended")
	case len(in.waiting)+len(line) >= maxWaiting:
		return fmt.Errorf("offer: %d bytes wait for the host to take them; hint: it may be gone", len(in.waiting))
	}
	in.waiting = append(append(in.waiting, line...), '\n')
	in.changed.Broadcast()
	return nil
}

// end may be called again.
func (in *input) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ended = true
	in.changed.Broadcast()
}
