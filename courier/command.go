package courier

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/myadm/myadm/courier/wire"
	"github.com/myadm/myadm/host"
)

// Command is the command line for the program at a path of the host. The request, with its secrets, is the command's
// standard input, which stays open until end is called: this ends the program if it has not ended by itself. A fetch and
// a probe do, when they are done. end must be called in any case, and may be called again.
func Command(path string, request wire.Request) (cmd host.Cmd, end func(), err error) {
	if err := request.Check(); err != nil {
		return host.Cmd{}, nil, fmt.Errorf("courier %s: %w", request.Command(), err)
	}
	line, err := json.Marshal(request)
	if err != nil {
		return host.Cmd{}, nil, fmt.Errorf("courier %s: %w", request.Command(), err)
	}
	if len(line) >= wire.MaxRequest {
		return host.Cmd{}, nil, fmt.Errorf("courier %s: the request has %d bytes, more than %d; hint: ask for fewer blobs at a time",
			request.Command(), len(line), wire.MaxRequest)
	}
	ended := make(chan struct{})
	input := io.MultiReader(bytes.NewReader(append(line, '\n')), open(ended))
	return host.Cmd{Argv: []string{path, request.Command()}, Stdin: input}, sync.OnceFunc(func() { close(ended) }), nil
}

// open is a reader that gives nothing, and ends when the channel is closed.
type open <-chan struct{}

func (o open) Read([]byte) (int, error) {
	<-o
	return 0, io.EOF
}
