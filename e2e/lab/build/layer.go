package build

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// layer is one of an image: made in memory, compressed with zstd (containerd has read it since 1.5), the same bytes for
// the same files.
type layer struct {
	compressed     []byte
	digest, diffID v1.Hash
}

func (l *layer) Digest() (v1.Hash, error)            { return l.digest, nil }
func (l *layer) DiffID() (v1.Hash, error)            { return l.diffID, nil }
func (l *layer) Size() (int64, error)                { return int64(len(l.compressed)), nil }
func (l *layer) MediaType() (types.MediaType, error) { return types.OCILayerZStd, nil }
func (l *layer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.compressed)), nil
}
func (l *layer) Uncompressed() (io.ReadCloser, error) { return decompress(l.compressed) }

func decompress(data []byte) (io.ReadCloser, error) {
	decoder, err := zstd.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return decoder.IOReadCloser(), nil
}

// layerBuilder writes a layer's tar. Owners are root and times the epoch: neither matters, and both would differ.
type layerBuilder struct {
	data bytes.Buffer
	tar  *tar.Writer
	dirs map[string]bool
}

func newLayer() *layerBuilder {
	l := &layerBuilder{dirs: map[string]bool{}}
	l.tar = tar.NewWriter(&l.data)
	return l
}

func (l *layerBuilder) add(h tar.Header, content []byte) error {
	if err := l.parents(h.Name); err != nil {
		return err
	}
	h.Size, h.ModTime = int64(len(content)), time.Unix(0, 0)
	if err := l.tar.WriteHeader(&h); err != nil {
		return err
	}
	_, err := l.tar.Write(content)
	return err
}

// parents adds the folders above a path once each, so that their mode is not left to whoever unpacks.
func (l *layerBuilder) parents(name string) error {
	parts := strings.Split(name, "/")
	for i := 1; i < len(parts); i++ {
		dir := strings.Join(parts[:i], "/") + "/"
		if l.dirs[dir] || dir == name {
			continue
		}
		l.dirs[dir] = true
		if err := l.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
	}
	return nil
}

// file adds a file of the host at an absolute path.
func (l *layerBuilder) file(from, to string, bindLow bool) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	h := tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(to, "/"), Mode: 0o755}
	if bindLow {
		h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": netBindService()}
	}
	return l.add(h, content)
}

// netBindService is the attribute that `setcap cap_net_bind_service=+ep` sets: struct vfs_cap_data of linux/capability.h,
// revision 2 with the effective bit, capability 10 permitted, none inheritable; little endian.
func netBindService() string {
	var data []byte
	for _, word := range []uint32{0x02000000 | 1, 1 << 10, 0, 0, 0} {
		data = binary.LittleEndian.AppendUint32(data, word)
	}
	return string(data)
}

// tree adds everything below a folder of the host, in the order of names. Files that begin with a dot are the cache's.
func (l *layerBuilder) tree(root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), ".") {
			return err
		}
		name := strings.TrimPrefix(path, root+"/")
		if entry.Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return l.add(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, nil)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return l.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(info.Mode().Perm())}, content)
	})
}

// baseFiles are what programs expect of a root: names for users, folders for temporary files and locks, and hosts before
// DNS.
func (l *layerBuilder) baseFiles() error {
	files := map[string]string{
		"etc/passwd":        "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
		"etc/group":         "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n",
		"etc/nsswitch.conf": "hosts: files dns\n",
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := l.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, []byte(files[name])); err != nil {
			return err
		}
	}
	return errors.Join(
		l.add(tar.Header{Typeflag: tar.TypeDir, Name: "run/", Mode: 0o755}, nil),
		l.add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, nil),
	)
}

func (l *layerBuilder) finish() (*layer, error) {
	if err := l.tar.Close(); err != nil {
		return nil, err
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	raw := l.data.Bytes()
	made := &layer{compressed: encoder.EncodeAll(raw, nil)}
	if err := encoder.Close(); err != nil {
		return nil, err
	}
	if made.diffID, _, err = v1.SHA256(bytes.NewReader(raw)); err != nil {
		return nil, err
	}
	made.digest, _, err = v1.SHA256(bytes.NewReader(made.compressed))
	return made, err
}
