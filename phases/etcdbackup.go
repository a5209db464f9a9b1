package phases

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// Save keeps what write writes, and nothing unless write returns no error.
type Save func(ctx context.Context, write func(io.Writer) error) error

// EtcdBackup writes a snapshot of the cluster's etcd, as it comes in, to where save keeps it. file names that place. info
// tells of the snapshot once it is whole and its hash was found right.
func EtcdBackup(c *cluster.Cluster, file string, save Save, info *etcd.SnapshotInfo) workflow.Phase {
	return workflow.Phase{
		Name:  "snapshot",
		Short: "take a snapshot of etcd",
		Check: func(context.Context, host.Reader) ([]workflow.Change, error) {
			if info.Bytes > 0 {
				return nil, nil
			}
			return []workflow.Change{{Action: workflow.Create, Object: file}}, nil
		},
		Apply: func(ctx context.Context, _ host.Host, _ []workflow.Change) error {
			client, err := c.Etcd(ctx)
			if err != nil {
				return err
			}
			var taken etcd.SnapshotInfo
			err = save(ctx, func(w io.Writer) error {
				taken, err = client.Snapshot(ctx, w, func(n, total int64) { workflow.ReportProgress(ctx, "received", n, total) })
				return err
			})
			if err == nil {
				*info = taken
			}
			return err
		},
	}
}

// SaveOnHost keeps a file on a host, for root alone. What is written streams through.
func SaveOnHost(h host.Host, file string) Save {
	part := path.Join(path.Dir(file), "."+path.Base(file)+".myadm-part")
	return func(ctx context.Context, write func(io.Writer) error) error {
		if err := host.CheckPath(file); err != nil {
			return err
		}
		stdin, pipe := io.Pipe()
		written := make(chan error, 1)
		sum := sha256.New()
		go func() {
			err := write(io.MultiWriter(pipe, sum))
			pipe.CloseWithError(err) // with an error, the command's input fails, too: what it has got so far is not all of it
			written <- err
		}()
		_, err := h.Run(ctx, host.Cmd{Argv: []string{"sh", "-c", receiveScript, "sh", part}, Stdin: stdin})
		stdin.CloseWithError(io.ErrClosedPipe) // a host that has given up takes no more
		if e := <-written; e != nil && !errors.Is(e, io.ErrClosedPipe) {
			err = e
		} else if err != nil {
			err = fmt.Errorf("%s: write %s: %w", h.Name(), part, err)
		}
		if err == nil {
			err = keep(ctx, h, part, file, hex.EncodeToString(sum.Sum(nil)))
		}
		if err != nil && ctx.Err() == nil {
			err = errors.Join(err, h.Remove(ctx, part))
		}
		return err
	}
}

// receiveScript writes its standard input to $1.
const receiveScript = `set -e; umask 077; rm -f "$1"; cat >"$1"; sync "$1"`

// keep gives a file that is whole its name.
func keep(ctx context.Context, h host.Host, part, file, sum string) error {
	infos, err := h.Sums(ctx, part)
	if err != nil {
		return fmt.Errorf("%s: %w", h.Name(), err)
	}
	if infos[0].SHA256 != sum {
		return fmt.Errorf("%s: %s is not what was sent; hint: the host's disk may be at fault", h.Name(), part)
	}
	if _, err := h.Run(ctx, host.Command("mv", "-T", part, file)); err != nil {
		return fmt.Errorf("%s: %w", h.Name(), err)
	}
	return nil
}
