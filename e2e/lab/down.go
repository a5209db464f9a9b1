package lab

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// Down removes a lab: mirror, hosts with their disks, network, and the files that Up wrote, then the folder if nothing else is
// in it. What is gone already is no error.
func Down(ctx context.Context, dir string, log io.Writer) error {
	dir, err := canonical(dir)
	if err != nil {
		return err
	}
	if err := removeMirror(ctx, dir); err != nil {
		return err
	}
	if err := removeHosts(ctx, dir, orDiscard(log)); err != nil {
		return err
	}
	for _, name := range []string{ClusterFile, SSHConfig, KnownHosts, KeyFile, PasswordFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// Fails, as it should, where the user keeps files of their own.
	_ = os.Remove(dir)
	return nil
}

func removeHosts(ctx context.Context, dir string, log io.Writer) error {
	if _, err := lookPath("docker"); err != nil {
		return nil // no Docker, no hosts
	}
	if _, err := lookPath("dockerd"); err != nil {
		if _, err := dialEngine(ctx); err != nil {
			return nil // a client of nothing
		}
	}
	cacheDir, err := CacheDir()
	if err != nil {
		return err
	}
	d, err := openEngine(ctx, cacheDir, false, log)
	if err != nil {
		return err
	}
	if exists(dir) {
		unlock, err := lock(ctx, dir)
		if err != nil {
			return err
		}
		defer unlock()
	}
	l := &Lab{Dir: dir, id: labID(dir), d: d}
	containers, err := d.lines(ctx, "ps", "--all", "--quiet", "--filter", l.filter())
	if err != nil {
		return err
	}
	var group errgroup.Group
	for _, c := range containers {
		group.Go(func() error {
			_, err := d.run(ctx, nil, "rm", "--force", "--volumes", c)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	networks, err := d.lines(ctx, "network", "ls", "--quiet", "--filter", l.filter())
	if err != nil || len(networks) == 0 {
		return err
	}
	_, err = d.run(ctx, nil, append([]string{"network", "rm"}, networks...)...)
	return err
}
