package courier

import (
	"encoding/json"
	"fmt"

	"github.com/myadm/myadm/courier/wire"
	"github.com/myadm/myadm/host"
)

// Command is the command line for the program at a path of the host. The request, with its secrets, is the command's
// standard input, which stays open until end is called: this ends the program if it has not ended by itself. A fetch and
// a probe do, when they are done. end must be called in any case, and may be called again.
func Command(path string, request wire.Request) (cmd host.Cmd, end func(), err error) {
	cmd, in, err := command(path, request)
	if err != nil {
		return host.Cmd{}, nil, err
	}
	return cmd, in.end, nil
}

// ServeCommand is Command for a server that is told of more blobs while it runs (wire.Offer): offer takes absolute paths by
// SHA-256. It may be called by many goroutines at once, also before the command was started, and
// never waits for the host: when the server knows of the blobs, nothing tells. A peer that asks earlier asks again. It
// returns an error for blobs that are wrong, and after the end. Peers that ask for a blob whose file is not there are told that it
// is gone.
func ServeCommand(path string, request *wire.Serve) (
	cmd host.Cmd, offer func(blobs map[string]string) error, end func(), err error,
) {
	cmd, in, err := command(path, request)
	if err != nil {
		return host.Cmd{}, nil, nil, err
	}
	return cmd, in.offer, in.end, nil
}

func command(path string, request wire.Request) (host.Cmd, *input, error) {
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
	in := newInput(append(line, '\n'))
	return host.Cmd{Argv: []string{path, request.Command()}, Stdin: in}, in, nil
}
