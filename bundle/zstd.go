package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// Packed is how a content is stored when it is compressed with zstd: its file is named by its own checksum then.
type Packed struct {
	SHA256 string `json:"sha256"` // of what is stored, in lower-case hex
	Size   int64  `json:"size"`   // of what is stored, in bytes
}

// Packing is how a Writer compresses; whoever keeps a bundle for later makes it anew when this changes.
const Packing = "zstd-better-8M"

// window is how far back a packed content refers: the 8 MiB that every decoder has to support (RFC 8878, 3.1.1.1.2).
const window = 8 << 20

// worthPacking tells whether packing saves enough, 5 %, to unpack for.
func worthPacking(size, packed int64) bool { return packed <= size-size/20 && packed < size }

// newPacker compresses kubelet, containerd and runc to 32 % in a second per 40 MB; the level below to 33 % in half of the
// time, the one above to 30 % in five times as much. The bytes do not depend on the concurrency. There is no checksum of
// zstd's, as there is a better one.
func newPacker(w io.Writer) (*zstd.Encoder, error) {
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(window),
		zstd.WithEncoderConcurrency(2), zstd.WithEncoderCRC(false))
}

func newUnpacker(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
}

// unpacked is the content of a packed file, of size bytes. Seeking only notes where the next Read is from: forward it skips,
// and backward it starts anew.
type unpacked struct {
	file     io.ReadSeekCloser
	decoder  *zstd.Decoder
	size     int64
	at, next int64 // where the decoder is, and where to read
}

func newUnpacked(file io.ReadSeekCloser, size int64) (*unpacked, error) {
	decoder, err := newUnpacker(file)
	if err != nil {
		return nil, err
	}
	return &unpacked{file: file, decoder: decoder, size: size}, nil
}

func (u *unpacked) Read(p []byte) (int, error) {
	if u.next >= u.size {
		return 0, io.EOF
	}
	if err := u.skip(); err != nil {
		return 0, err
	}
	n, err := u.decoder.Read(p[:min(int64(len(p)), u.size-u.at)])
	u.at += int64(n)
	u.next = u.at
	if errors.Is(err, io.EOF) && u.at < u.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// skip brings the decoder to where to read.
func (u *unpacked) skip() error {
	if u.next < u.at {
		if _, err := u.file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := u.decoder.Reset(u.file); err != nil {
			return err
		}
		u.at = 0
	}
	n, err := io.CopyN(io.Discard, u.decoder, u.next-u.at)
	u.at += n
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (u *unpacked) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += u.next
	case io.SeekEnd:
		offset += u.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d", offset)
	}
	u.next = offset
	return offset, nil
}

func (u *unpacked) Close() error {
	u.decoder.Close()
	return u.file.Close()
}

// unpackedSum is the content of a packed file, of which no more than limit bytes and one are unpacked.
func unpackedSum(ctx context.Context, r io.Reader, limit int64) (Blob, error) {
	decoder, err := newUnpacker(r)
	if err != nil {
		return Blob{}, err
	}
	defer decoder.Close()
	content := newSummed(io.Discard)
	buffer := make([]byte, 256<<10)
	for content.size <= limit {
		if err := ctx.Err(); err != nil {
			return Blob{}, err
		}
		n, err := decoder.Read(buffer[:min(int64(len(buffer))-1, limit-content.size)+1])
		content.Write(buffer[:n]) //nolint:errcheck // it goes nowhere
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Blob{}, err
		}
	}
	return content.blob(), nil
}

// summed counts and hashes what is written through it.
type summed struct {
	to   io.Writer
	hash hash.Hash
	size int64
}

func newSummed(to io.Writer) *summed { return &summed{to: to, hash: sha256.New()} }

func (s *summed) Write(p []byte) (int, error) {
	n, err := s.to.Write(p)
	s.hash.Write(p[:n])
	s.size += int64(n)
	return n, err
}

func (s *summed) blob() Blob { return Blob{SHA256: hex.EncodeToString(s.hash.Sum(nil)), Size: s.size} }

// pack stores a content, packed if that is worth it, and nothing if it is not the wanted one; nil: any will do.
func (w *Writer) pack(r io.Reader, wanted *Blob) (Blob, error) {
	raw, err := w.temporary()
	if err != nil {
		return Blob{}, err
	}
	defer os.Remove(raw.Name()) // gone already, if it is what is stored
	small, err := w.temporary()
	if err != nil {
		return Blob{}, errors.Join(err, raw.Close())
	}
	defer os.Remove(small.Name())
	content, packed := newSummed(raw), newSummed(small)
	packer, err := newPacker(packed)
	if err == nil {
		_, err = io.Copy(io.MultiWriter(content, packer), r)
		err = errors.Join(err, packer.Close())
	}
	if err := errors.Join(err, raw.Close(), small.Close()); err != nil {
		return Blob{}, err
	}
	blob := content.blob()
	if err := blob.checkWanted(wanted); err != nil {
		return Blob{}, err
	}
	if known, ok := w.stored[blob.SHA256]; ok {
		return known, nil
	}
	if file := packed.blob(); worthPacking(blob.Size, file.Size) {
		blob.Zstd = Packed{SHA256: file.SHA256, Size: file.Size}
		return blob, w.keep(blob, small.Name())
	}
	return blob, w.keep(blob, raw.Name())
}
