// Command myadm takes plain Linux hosts to a production Kubernetes cluster, over SSH.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/myadm/myadm/cmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	os.Exit(cmd.Main(ctx, os.Args[1:], cmd.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
