package mirror

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

// packFormat is raised when pack makes other bytes of the same programs.
const packFormat = 1

// packed is one program of a tar file.
type packed struct{ path, blob string }

// pack returns the blob of a gzip-ed tar file. The same programs give the same bytes, and are packed once in a store's life.
func (s store) pack(members []packed) (string, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%d %q", packFormat, members))
	note := filepath.Join(s.dir, "packed", fmt.Sprintf("%x", key))
	if sum, err := os.ReadFile(note); err == nil && s.has(string(sum)) {
		return string(sum), nil
	}
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(s.writeTar(writer, members)) }()
	sum, err := s.put(reader)
	reader.CloseWithError(err) // ends the writer when the disk is full
	if err != nil {
		return "", fmt.Errorf("pack %s: %w", members[0].path, err)
	}
	return sum, os.WriteFile(note, []byte(sum), 0o644)
}

func (s store) writeTar(w io.Writer, members []packed) error {
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	out := tar.NewWriter(zip)
	if strings.HasPrefix(members[0].path, "./") { // made by `tar -C DIR .`, which begins with the folder
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
	}
	for _, m := range members {
		if err := s.writeMember(out, m); err != nil {
			return err
		}
	}
	return errors.Join(out.Close(), zip.Close())
}

func (s store) writeMember(out *tar.Writer, m packed) error {
	file, err := os.Open(s.path(m.blob))
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: m.path, Size: info.Size(), Mode: 0o755, ModTime: time.Unix(0, 0)}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(out, file)
	return err
}
