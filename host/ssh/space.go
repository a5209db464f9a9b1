package ssh

import (
	"context"
	"errors"

	"github.com/pkg/sftp"

	"github.com/myadm/myadm/host"
)

// explain finds out whether a write failed because the disk of dir is full: SFTP has one and the same status, "Failure", for
// that and for anything else that it has no word for.
func (h *Host) explain(ctx context.Context, client *sftp.Client, dir string, err error) error {
	var status *sftp.StatusError
	if !errors.As(err, &status) || status.FxCode() != sftp.ErrSSHFxFailure {
		return err
	}
	space, spaceErr := await(ctx, h, func() (*sftp.StatVFS, error) { return client.StatVFS(dir) })
	// Not every server can tell. What has less room than a packet could not take the one that failed.
	if spaceErr != nil || space.Frsize*space.Bavail >= packet {
		return err
	}
	return &host.FullError{Path: dir, Err: err}
}
