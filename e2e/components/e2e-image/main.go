// Command e2e is the one program of the end-to-end tests' image: a server that says which pod answered, and the clients
// that ask it, so that a test needs no shell and no image from elsewhere.
//
//	e2e serve [ADDRESS]   answer every request with the host's name; ADDRESS is :8080 unless given
//	e2e get URL [WAIT]    print the answer, asking again for up to WAIT (a duration; once without)
//	e2e ask URL [ADDRESS] ask ten times in a second until asked to end; ADDRESS, :8080 unless given, answers with what was
//	                      seen as a line of JSON
//	e2e lookup NAME       print the addresses of NAME, one per line
//	e2e load NAME [ADDRESS [TIMEOUT]]
//	                      write and watch by the API of the cluster until asked to end, then print what was seen as a line
//	                      of JSON; ADDRESS, :8080 unless given, answers GET /lap and GET /stop with the same; each
//	                      request has TIMEOUT, two seconds unless given
//	e2e sleep             stay until asked to end
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/myadm/myadm/e2e/components/e2e-image/ask"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string) error {
	usage := errors.New("usage: e2e serve [ADDRESS] | get URL [WAIT] | ask URL [ADDRESS] | lookup NAME | load NAME [ADDRESS [TIMEOUT]] | sleep")
	if len(args) == 0 {
		return usage
	}
	arg := func(i int, fallback string) string {
		if i < len(args) {
			return args[i]
		}
		return fallback
	}
	switch command := args[0]; {
	case command == "serve":
		return serve(ctx, out, arg(1, ":8080"))
	case command == "get" && len(args) > 1:
		wait, err := time.ParseDuration(arg(2, "0s"))
		if err != nil {
			return err
		}
		return get(ctx, out, args[1], wait)
	case command == "ask" && len(args) > 1:
		asker := ask.Start(ctx, args[1])
		return answer(ctx, arg(2, ":8080"), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(asker.Result()) // to whoever still listens
		}))
	case command == "lookup" && len(args) > 1:
		return lookup(ctx, out, args[1])
	case command == "load" && len(args) > 1:
		timeout, err := time.ParseDuration(arg(3, "2s"))
		if err != nil {
			return err
		}
		return putLoad(ctx, out, args[1], arg(2, ":8080"), timeout)
	case command == "sleep":
		<-ctx.Done()
		return nil
	}
	return usage
}

func serve(ctx context.Context, out io.Writer, address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "serving", name, "on", address)
	return answer(ctx, address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(out, r.Method, r.URL.Path, "from", r.RemoteAddr)
		fmt.Fprintln(w, name)
	}))
}

// answer serves until ctx ends.
func answer(ctx context.Context, address string, handler http.Handler) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: handler}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// get asks on a new connection each time, so that a retry may reach another pod of the Service.
func get(ctx context.Context, out io.Writer, url string, wait time.Duration) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	deadline := time.Now().Add(wait)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		body, err := fetch(ctx, client, url)
		if err == nil {
			_, err = out.Write(body)
			return err
		}
		if !time.Now().Before(deadline) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

func fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, 1<<20))
}

func lookup(ctx context.Context, out io.Writer, name string) error {
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return err
	}
	for _, address := range addresses {
		fmt.Fprintln(out, address)
	}
	return nil
}
