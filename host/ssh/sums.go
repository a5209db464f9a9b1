package ssh

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/ssh/quote"
)

// sumScript prints a line for each of its arguments, in their order: what sha256sum prints for standard input, or a dash
// for what is no regular file. Names are not printed, so that none can look like something else. Links are left out here
// and not by sha256sum, which would follow them, and wait at a fifo.
const sumScript = `for p; do if [ -f "$p" ] && [ ! -L "$p" ] && sha256sum <"$p"; then :; else echo -; fi; done 2>/dev/null`

// maxNames is how many bytes of quoted names one command is given; far enough below maxLine for sudo and the script.
const maxNames = 96 << 10

// Sums is Stat with sums. The sums are computed while Stat's round trip is under way.
func (h *Host) Sums(ctx context.Context, paths ...string) ([]host.Info, error) {
	if err := host.CheckPaths(paths...); err != nil {
		return nil, err
	}
	var infos []host.Info
	sums := make([]string, len(paths))
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() (err error) {
		infos, err = h.Stat(ctx, paths...)
		return err
	})
	done := 0
	for batch := range batches(paths) {
		part := sums[done : done+len(batch)]
		done += len(batch)
		all.Go(func() error {
			out, err := h.Query(ctx, host.Command(append([]string{"/bin/sh", "-c", sumScript, "sh"}, batch...)...))
			if err != nil {
				return fmt.Errorf("sha256: %w", err)
			}
			return parseSums(out, part)
		})
	}
	if err := all.Wait(); err != nil {
		return nil, err
	}
	for i := range infos {
		if infos[i].Mode.IsRegular() && infos[i].Exists {
			infos[i].SHA256 = sums[i]
		}
	}
	return infos, nil
}

// batches cuts a list of names into parts that fit into a command line.
func batches(names []string) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for start := 0; start < len(names); {
			end, size := start, 0
			for end < len(names) && (end == start || size+len(quote.Word(names[end])) < maxNames) {
				size += len(quote.Word(names[end])) + 1
				end++
			}
			if !yield(slices.Clone(names[start:end])) {
				return
			}
			start = end
		}
	}
}

// parseSums reads the output of sumScript into sums, which has an element for each argument.
func parseSums(out []byte, sums []string) error {
	lines := bytes.Split(out, []byte("\n"))
	if len(lines) != len(sums)+1 || len(lines[len(sums)]) > 0 {
		return fmt.Errorf("sha256sum printed %d lines for %d files", len(lines)-1, len(sums))
	}
	for i, line := range lines[:len(sums)] {
		if string(line) == "-" {
			sums[i] = ""
			continue
		}
		sum, ok := bytes.CutSuffix(line, []byte("  -"))
		if raw, err := hex.DecodeString(string(sum)); !ok || err != nil || len(raw) != 32 || !bytes.Equal(sum, bytes.ToLower(sum)) {
			return fmt.Errorf("sha256sum printed %q", line)
		}
		sums[i] = string(sum)
	}
	return nil
}
