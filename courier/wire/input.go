package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Offer tells a running server of more blobs, or of other paths for those that it has. Any number of them may follow a
// Serve on the program's standard input, each as a line; none is answered. One that is malformed ends the server with an Error;
// a path where there is no file does not, as it may be moved at any time: peers that ask for its blob are answered 410.
type Offer struct {
	Blobs map[string]string `json:"blobs"` // absolute path by SHA-256
}

// Check tells everything that is wrong with the offer.
func (o Offer) Check() error { return checkPaths(o.Blobs) }

// Input is the program's standard input: a request, and what follows it.
type Input struct {
	limited *io.LimitedReader
	decoder *json.Decoder
}

// NewInput reads from r, and leaves it open: its end tells that nobody waits for an answer any more.
func NewInput(r io.Reader) *Input {
	limited := &io.LimitedReader{R: r}
	decoder := json.NewDecoder(limited)
	decoder.DisallowUnknownFields()
	return &Input{limited, decoder}
}

// Request reads the request of a command and checks it. It returns as soon as the request is whole.
func (in *Input) Request(command string) (Request, error) {
	var request Request
	switch command {
	case "fetch":
		request = &Fetch{}
	case "serve":
		request = &Serve{}
	case "probe":
		request = &Probe{}
	default:
		return nil, fmt.Errorf("command %q is none of fetch, serve and probe", command)
	}
	if err := in.decode(request); err != nil {
		return nil, fmt.Errorf("request of %s on standard input: %w", command, err)
	}
	if err := request.Check(); err != nil {
		return nil, fmt.Errorf("request of %s: %w", command, err)
	}
	return request, nil
}

// Offer waits for the next offer and checks it. It returns io.EOF when the input has ended.
func (in *Input) Offer() (Offer, error) {
	var o Offer
	switch err := in.decode(&o); {
	case errors.Is(err, io.EOF):
		return o, io.EOF
	case err != nil:
		return o, fmt.Errorf("offer on standard input: %w", err)
	}
	if err := o.Check(); err != nil {
		return o, fmt.Errorf("offer: %w", err)
	}
	return o, nil
}

// Wait returns when the input has ended, whatever comes before.
func (in *Input) Wait() {
	io.Copy(io.Discard, in.limited.R) //nolint:errcheck // an input that fails has ended, too
}

func (in *Input) decode(value any) error {
	in.limited.N = MaxRequest
	return in.decoder.Decode(value)
}

// ReadRequest reads the request of a command, with nothing after it, and checks it.
func ReadRequest(command string, r io.Reader) (Request, error) { return NewInput(r).Request(command) }
