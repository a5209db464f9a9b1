package delivery

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/host"
)

// sendAll sends a host what it wants, several at a time.
func (d *Delivery) sendAll(ctx context.Context, s *site, wants []want) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, w := range wants {
		g.Go(func() error { return d.send(ctx, s, w) })
	}
	return g.Wait()
}

// send sends one blob from here.
func (d *Delivery) send(ctx context.Context, s *site, w want) error {
	if err := d.ensure(ctx, w.blob); err != nil {
		return err
	}
	blob := host.Blob{
		Path: w.path, Mode: fs.FileMode(w.mode), Size: w.blob.Size, SHA256: w.blob.SHA256,
		Open: func() (io.ReadSeekCloser, error) { return d.open(ctx, w) },
	}
	if err := s.Upload(ctx, blob, w.told); err != nil {
		return fmt.Errorf("send %s: %w", w.name, err)
	}
	return nil
}

func (d *Delivery) open(ctx context.Context, w want) (io.ReadSeekCloser, error) {
	switch {
	case w.open != nil:
		return w.open(ctx)
	case w.artifact.Kind == bundle.KindBinary:
		return d.Bundle.Open(ctx, w.artifact)
	}
	return d.Bundle.OpenBlob(ctx, w.blob)
}

// stream has an image imported straight from what is sent.
func (d *Delivery) stream(ctx context.Context, s *site, a bundle.Artifact, command []string, told Told) error {
	if err := d.ensure(ctx, a.Blobs...); err != nil {
		return err
	}
	archive, _, err := d.Bundle.Archive(ctx, a)
	if err != nil {
		return err
	}
	// An archive is longer than its blobs, of which the total is, by some headers.
	counted := &countingReader{r: archive, told: func(n int64) { told(a.Name, min(n, a.Size())) }}
	defer counted.Close()
	if _, err := s.Run(ctx, host.Cmd{Argv: command, Stdin: counted}); err != nil {
		return fmt.Errorf("import %s: %w", a.Image, err)
	}
	return nil
}

func (d *Delivery) ensure(ctx context.Context, blobs ...bundle.Blob) error {
	if d.Ensure == nil {
		return nil
	}
	return d.Ensure(ctx, blobs...)
}

// countingReader tells how much of r was read. A command's input may still be read when the command has ended: Close waits
// for that, and then nothing is read or told any more.
type countingReader struct {
	mu   sync.Mutex
	r    io.ReadCloser // nil: closed
	n    int64
	told func(n int64)
}

func (c *countingReader) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.r == nil {
		return 0, fs.ErrClosed
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.told(c.n)
	return n, err
}

// Close closes r.
func (c *countingReader) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.r.Close()
	c.r = nil
	return err
}
