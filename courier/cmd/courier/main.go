// Command courier is what myadm puts on a host while artifacts travel. Its argument is a command (fetch, serve, probe),
// its standard input the request and then the sign that somebody waits: the program ends when it closes. Package wire has
// the words. It uses the standard library and a decoder of zstd alone, so as to stay small.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, func() { os.Exit(exitFailed) }))
}
