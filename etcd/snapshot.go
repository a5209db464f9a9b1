package etcd

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// SnapshotInfo describes a snapshot: the database's file and, after it, the SHA-256 of that file.
type SnapshotInfo struct {
	Bytes    int64  // of the whole
	SHA256   string // of the whole, in lower-case hex, as sha256sum prints it
	Version  string // of the etcd that made it
	Revision int64  // that the member had reached when the snapshot was asked for: it holds this one or a later one
	Member   string // client URL of the member that made it
}

// ErrNoHash says that a database does not end with its hash: it is a copy of a member's file, or it was cut.
var ErrNoHash = errors.New("no SHA-256 of the database at its end; hint: it is a copy of a member's database, or it was cut: " +
	"take a snapshot by myadm etcd backup")

// ErrSnapshotHash says that a snapshot is damaged.
var ErrSnapshotHash = errors.New("the snapshot's SHA-256 is not the one that etcd has appended; hint: it is damaged: use another one")

// ErrNotSnapshot says that a file is none of etcd's.
var ErrNotSnapshot = errors.New("no etcd database")

// A database is a bbolt file: whole pages, of which the first begins with a header of 16 bytes and this magic number.
// The size of a page is that of the operating system that made it, and never less than a sector.
const (
	sector       = 512
	boltMagicAt  = 16
	boltMagic    = 0xED0CDAED
	trailerBytes = sha256.Size
)

// Snapshot writes a snapshot of the first endpoint that can make one to w as it arrives, and checks the hash that etcd
// appends. progress, when not nil, is told the bytes that were written so far, and about how many there will be. After an
// error, what was written is of no use.
func (c *Client) Snapshot(ctx context.Context, w io.Writer, progress func(done, total int64)) (SnapshotInfo, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var errs []error
	for _, endpoint := range c.endpoints() {
		s, err := c.Status(ctx, endpoint)
		if err == nil && s.Learner {
			err = fmt.Errorf("etcd at %s: it is a learner, which makes no snapshots", endpoint)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		info, err := c.snapshot(ctx, endpoint, w, progress)
		if err != nil {
			return SnapshotInfo{}, fmt.Errorf("snapshot of etcd at %s: %w", endpoint, err)
		}
		info.Version, info.Revision = s.Version, s.Revision
		return info, nil
	}
	return SnapshotInfo{}, fmt.Errorf("snapshot of etcd: %w", errors.Join(errs...))
}

func (c *Client) snapshot(ctx context.Context, endpoint string, w io.Writer, progress func(done, total int64)) (SnapshotInfo, error) {
	// A connection of its own: one that a short request gives up would cut the stream.
	e, err := c.dial(endpoint)
	if err != nil {
		return SnapshotInfo{}, err
	}
	defer e.Close()
	// Client.Snapshot of etcd's own opens the stream anew when it is cut, in the middle of what was written already.
	stream, err := etcdserverpb.NewMaintenanceClient(e.ActiveConnection()).Snapshot(ctx, &etcdserverpb.SnapshotRequest{})
	if err != nil {
		return SnapshotInfo{}, rpctypes.Error(err)
	}
	info := SnapshotInfo{Member: endpoint}
	whole, sealed := sha256.New(), newSealed()
	to := io.MultiWriter(w, whole, sealed)
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return SnapshotInfo{}, rpctypes.Error(err)
		}
		if _, err := to.Write(piece.GetBlob()); err != nil {
			return SnapshotInfo{}, err
		}
		info.Bytes += int64(len(piece.GetBlob()))
		if progress != nil {
			progress(info.Bytes, info.Bytes+int64(piece.GetRemainingBytes()))
		}
	}
	info.SHA256 = hex.EncodeToString(whole.Sum(nil))
	return info, sealed.verify(info.Bytes)
}

// VerifySnapshot checks a snapshot of size bytes: that it is a database of etcd's, and that its hash is right. The error
// wraps ErrNotSnapshot, ErrNoHash or ErrSnapshotHash. The info has Bytes and SHA256 alone.
func VerifySnapshot(r io.ReaderAt, size int64) (SnapshotInfo, error) {
	head := make([]byte, boltMagicAt+4)
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return SnapshotInfo{}, err
	}
	if binary.LittleEndian.Uint32(head[boltMagicAt:]) != boltMagic {
		return SnapshotInfo{}, ErrNotSnapshot
	}
	whole, sealed := sha256.New(), newSealed()
	n, err := io.Copy(io.MultiWriter(whole, sealed), io.NewSectionReader(r, 0, size))
	if err != nil {
		return SnapshotInfo{}, err
	}
	if err := sealed.verify(n); err != nil {
		return SnapshotInfo{}, err
	}
	return SnapshotInfo{Bytes: n, SHA256: hex.EncodeToString(whole.Sum(nil))}, nil
}

// sealed takes a database that ends with its hash, in pieces of any size.
type sealed struct {
	sum  hash.Hash // of all that was written but tail
	tail []byte    // the last bytes, at most trailerBytes
}

func newSealed() *sealed { return &sealed{sum: sha256.New()} }

func (s *sealed) Write(p []byte) (int, error) {
	s.tail = append(s.tail, p...)
	if more := len(s.tail) - trailerBytes; more > 0 {
		s.sum.Write(s.tail[:more])
		s.tail = append(s.tail[:0], s.tail[more:]...)
	}
	return len(p), nil
}

// verify checks the hash once all of size bytes are written.
func (s *sealed) verify(size int64) error {
	if size <= trailerBytes || size%sector != trailerBytes {
		return ErrNoHash
	}
	if string(s.sum.Sum(nil)) != string(s.tail) {
		return ErrSnapshotHash
	}
	return nil
}
