package bundle

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// source is where the files of a bundle are: a folder or a tar file. Names are relative, clean and have slashes.
type source interface {
	stat(name string) (stamp, error)
	open(name string) (io.ReadSeekCloser, stamp, error)
	io.Closer
}

// stamp tells whether a file is still the one that was verified.
type stamp struct {
	bytes    int64
	modified time.Time
}

func stampOf(info fs.FileInfo) stamp { return stamp{info.Size(), info.ModTime()} }

// folder reads through os.Root, so that no link in a bundle reaches out of it.
type folder struct{ root *os.Root }

func openFolder(dir string) (source, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return folder{root}, nil
}

func (f folder) stat(name string) (stamp, error) {
	info, err := f.root.Stat(name)
	if err != nil {
		return stamp{}, missing(name, err)
	}
	if !info.Mode().IsRegular() {
		return stamp{}, fmt.Errorf("%s is not a regular file", name)
	}
	return stampOf(info), nil
}

func (f folder) open(name string) (io.ReadSeekCloser, stamp, error) {
	// Looking first keeps a named pipe from blocking the open.
	if _, err := f.stat(name); err != nil {
		return nil, stamp{}, err
	}
	file, err := f.root.Open(name)
	if err != nil {
		return nil, stamp{}, missing(name, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, stamp{}, errors.Join(err, file.Close())
	}
	return file, stampOf(info), nil
}

func (f folder) Close() error { return f.root.Close() }

// missing drops the path that os names: the caller names the bundle and the artifact.
func missing(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return missingError(name)
	}
	return err
}

// missingError is a file that is not there, by its name.
type missingError string

func (e missingError) Error() string { return string(e) + " is missing" }

// Is tells that this is fs.ErrNotExist, whose own text is left out.
func (e missingError) Is(target error) bool { return target == fs.ErrNotExist }

// tarFile is a tar that is read in place: its headers are walked once, then blobs are sections of the file.
type tarFile struct {
	file    *os.File
	entries map[string]section
}

type section struct{ offset, size int64 }

func openTarFile(name string) (source, error) {
	t, first, err := openTar(name)
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, tarHint)
	}
	if first != indexName {
		return nil, errors.Join(fmt.Errorf("the tar file starts with %q instead of %s%s", first, indexName, tarHint), t.Close())
	}
	return t, nil
}

const tarHint = "; hint: copy it again; a bundle is a folder, or a plain tar file made by " +
	"`tar -cf FILE index.json blobs` in that folder"

// openTar opens any tar of plain files, and tells which one comes first.
func openTar(name string) (t *tarFile, first string, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, "", err
	}
	entries, first, err := readTar(file)
	if err != nil {
		return nil, "", errors.Join(err, file.Close())
	}
	return &tarFile{file, entries}, first, nil
}

// readTar finds the files of a tar, and which comes first. It relies on two things that archive/tar does: reading exactly
// the header before Next returns, so that the position is then the content's, and seeking over what nobody read, so that
// a bundle of gigabytes opens at once.
func readTar(r io.ReadSeeker) (entries map[string]section, first string, err error) {
	entries = map[string]section{}
	reader := tar.NewReader(r)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, "", errors.New("the tar file is cut off")
		}
		if err != nil {
			return nil, "", err
		}
		name := path.Clean(header.Name)
		switch {
		case header.Typeflag == tar.TypeDir && fs.ValidPath(name):
			continue
		case header.Typeflag != tar.TypeReg || sparse(header):
			return nil, "", fmt.Errorf("%q in the tar file is not a plain file", header.Name)
		case !fs.ValidPath(name) || name == ".":
			return nil, "", fmt.Errorf("%q in the tar file is not a path below its root", header.Name)
		case len(entries) == 0:
			first = name
		}
		if _, twice := entries[name]; twice {
			return nil, "", fmt.Errorf("%q is in the tar file twice", name)
		}
		offset, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, "", err
		}
		entries[name] = section{offset, header.Size}
	}
	if len(entries) == 0 {
		return nil, "", errors.New("the tar file is empty")
	}
	return entries, first, nil
}

// sparse files have a size that is not the number of bytes stored.
func sparse(header *tar.Header) bool {
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (t *tarFile) stat(name string) (stamp, error) {
	entry, found := t.entries[name]
	if !found {
		return stamp{}, missingError(name)
	}
	info, err := t.file.Stat()
	if err != nil {
		return stamp{}, err
	}
	return stamp{entry.size, info.ModTime()}, nil
}

func (t *tarFile) open(name string) (io.ReadSeekCloser, stamp, error) {
	s, err := t.stat(name)
	if err != nil {
		return nil, stamp{}, err
	}
	return sectionFile{io.NewSectionReader(t.file, t.entries[name].offset, s.bytes)}, s, nil
}

func (t *tarFile) Close() error { return t.file.Close() }

type sectionFile struct{ *io.SectionReader }

func (sectionFile) Close() error { return nil }
