package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// ask has the user agree to what is to happen, on a terminal, and refuses to guess elsewhere.
func ask(ctx context.Context, streams Streams, what string) error {
	in, ok := streams.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usageError{fmt.Errorf("this would %s; hint: --yes, since there is no terminal to ask on", what)}
	}
	fmt.Fprintf(streams.Err, "%s%s? [y/N] ", strings.ToUpper(what[:1]), what[1:])
	answers := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n')
		answers <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answers:
		if a == "y" || a == "yes" {
			return nil
		}
		return errors.New("nothing was done")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
