package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/host"
)

// window is how many packets of an upload are under way at once: 2 MiB, which is what sshd's flow control lets through.
const window = 2 << 20 / packet

// errWrongSum is an upload whose content is not what it should be.
var errWrongSum = errors.New("the sum on the host is wrong")

// Upload streams a blob into place over SFTP. Until it is whole it is a hidden file beside the target, whose name comes
// from the sum, so that only the same content goes on with it.
func (h *Host) Upload(ctx context.Context, blob host.Blob, progress func(int64)) error {
	if progress == nil {
		progress = func(int64) {}
	}
	if err := host.CheckBlob(blob); err != nil {
		return err
	}
	if err := h.upload(ctx, blob, progress); err != nil {
		return fmt.Errorf("upload %s: %w", blob.Path, err)
	}
	return nil
}

func (h *Host) upload(ctx context.Context, blob host.Blob, progress func(int64)) error {
	client, err := h.sftpClient(ctx)
	if err != nil {
		return err
	}
	part := host.PartPath(blob)
	infos, err := h.Sums(ctx, blob.Path, part)
	if err != nil {
		return err
	}
	if there := infos[0]; there.SHA256 == blob.SHA256 {
		progress(blob.Size)
		if there.Mode.Perm() == blob.Mode {
			return nil
		}
		_, err := await(ctx, h, func() (struct{}, error) { return struct{}{}, client.Chmod(blob.Path, blob.Mode) })
		return err
	}
	have := resumeAt(infos[1], blob)
	err = h.transfer(ctx, client, blob, part, have, progress)
	if errors.Is(err, errWrongSum) && have > 0 { // what was there was not the beginning of it
		h.log.Info("upload starts again: what an earlier one left is damaged", "path", blob.Path)
		err = h.transfer(ctx, client, blob, part, 0, progress)
	}
	return err
}

// resumeAt tells how much of an earlier upload is good. Writes overtake each other within the window, so that a cut
// leaves holes in the last part of the file, but not before it.
func resumeAt(part host.Info, blob host.Blob) int64 {
	switch {
	case !part.Exists || !part.Mode.IsRegular() || part.Size > blob.Size:
		return 0
	case part.SHA256 == blob.SHA256:
		return part.Size
	default:
		return max(0, part.Size-window*packet)
	}
}

// transfer sends the blob from an offset, checks it and puts it in place. A source that cannot be opened leaves nothing on
// the host.
func (h *Host) transfer(ctx context.Context, client *sftp.Client, blob host.Blob, part string, offset int64, progress func(int64)) error {
	content, err := blob.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	f, err := await(ctx, h, func() (*sftp.File, error) {
		if offset > 0 && ownedByRoot(client, part) {
			return client.OpenFile(part, os.O_WRONLY)
		}
		offset = 0
		client.Remove(part) //nolint:errcheck // create tells what is in the way
		return create(client, part)
	})
	if errors.Is(err, fs.ErrNotExist) {
		if err := h.mkdir(ctx, path.Dir(part)); err != nil {
			return err
		}
		f, err = await(ctx, h, func() (*sftp.File, error) { return create(client, part) })
	}
	if err != nil {
		return err
	}
	defer func() { go f.Close() }()
	progress(offset)
	if _, err := content.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	if err := h.send(ctx, f, content, offset, progress); err != nil {
		return h.explain(ctx, client, path.Dir(part), err)
	}
	return h.settle(ctx, client, f, blob, part)
}

// send writes the content, which is at the offset, in packets, a window of them at a time. A packet is only sent when the one a window before it has
// been acknowledged: what lies a window behind the end of a cut file is whole.
func (h *Host) send(ctx context.Context, f *sftp.File, r io.Reader, offset int64, progress func(int64)) error {
	type slot struct {
		data []byte
		n    int        // bytes of data that were sent
		ack  chan error // gets how it went
	}
	var ring [window]slot
	for i := range ring {
		ring[i] = slot{data: make([]byte, packet), ack: make(chan error, 1)}
		ring[i].ack <- nil
	}
	onHost, drained, ended := offset, 0, false
	for i := 0; drained < window; i++ {
		s := &ring[i%window]
		select {
		case err := <-s.ack:
			if err != nil {
				return h.blame(ctx, err)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-h.alive.Done():
			return h.lost()
		}
		if s.n > 0 {
			onHost += int64(s.n)
			progress(onHost)
			s.n = 0
		}
		if ended {
			drained++
			continue
		}
		n, err := io.ReadFull(r, s.data)
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			ended = true
		case err != nil:
			return err
		}
		s.n = n
		at := offset
		offset += int64(n)
		go func() { s.ack <- writeAt(f, s.data[:n], at) }()
	}
	return nil
}

// settle checks what is on the host and puts it in place.
func (h *Host) settle(ctx context.Context, client *sftp.Client, f *sftp.File, blob host.Blob, part string) error {
	all, both := errgroup.WithContext(ctx)
	var infos []host.Info
	all.Go(func() (err error) {
		infos, err = h.Sums(both, part)
		return err
	})
	all.Go(func() error {
		_, err := await(both, h, func() (struct{}, error) { return struct{}{}, errors.Join(f.Chmod(blob.Mode), fsync(f)) })
		return err
	})
	if err := all.Wait(); err != nil {
		return err
	}
	if infos[0].SHA256 != blob.SHA256 {
		// The next upload must not trust it. That it is gone is no condition: its sum would be wrong once more.
		await(ctx, h, func() (struct{}, error) { return struct{}{}, client.Remove(part) }) //nolint:errcheck // as said
		return fmt.Errorf("%w: %s of %d bytes, want %s of %d; hint: the source may have changed since it was summed",
			errWrongSum, infos[0].SHA256, infos[0].Size, blob.SHA256, blob.Size)
	}
	_, err := await(ctx, h, func() (struct{}, error) { return struct{}{}, client.PosixRename(part, blob.Path) })
	return err
}

// ownedByRoot keeps an upload from going on in a file that somebody else put there and could change afterwards.
func ownedByRoot(client *sftp.Client, path string) bool {
	info, err := client.Lstat(path)
	if err != nil {
		return false
	}
	attributes, ok := info.Sys().(*sftp.FileStat)
	return ok && attributes.UID == 0
}
