// Package courier is myadm's side of the small program that stands on a host only while artifacts travel. The program
// (cmd/courier) downloads blobs to the host, serves them to other hosts, and tells what the host can reach; package wire
// is what the two say to each other.
//
// A run has three steps. Program gives the program for a host's architecture, to be uploaded (to a folder that only root
// can write to) and removed afterwards. Command makes the command line; the program works until it is done or until the
// command's standard input closes, and so never outlives the connection. A Decoder reads what it prints:
//
//	program, err := courier.Program("amd64") // errors.Is(err, courier.ErrNotEmbedded): upload the artifacts instead
//	cmd, end, err := courier.Command(path, &wire.Fetch{...})
//	defer end()
//	... start cmd on the host, with its output in r ...
//	for d := courier.NewDecoder(r); ; {
//		event, err := d.Next() // io.EOF after the last event
//	}
//
// A fetch that was cut off goes on where it ended when the same request is made again. Which of the blobs failed, and
// whether an upload can help, is in wire.Failed; the exit status is 1 when there was one, and 2 for a wrong request.
package courier

import (
	"bytes"
	"compress/gzip"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// ErrNotEmbedded is a build of myadm without the program for an architecture.
var ErrNotEmbedded = errors.New("this build of myadm has no courier")

//go:embed all:programs
var programs embed.FS

// Program is the program for linux on an architecture ("amd64", "arm64"): the bytes of a static ELF file, some 7 MB. A build
// without it (by a plain `go build`, or for another architecture) gives an error that wraps ErrNotEmbedded.
func Program(arch string) ([]byte, error) {
	packed, err := Packed(arch)
	if err != nil {
		return nil, err
	}
	unpacking, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("courier for %s: %w", arch, err)
	}
	program, err := io.ReadAll(unpacking)
	if err != nil {
		return nil, fmt.Errorf("courier for %s: %w", arch, err)
	}
	return program, nil
}

// Packed is Program as gzip has it, for those who unpack it on the host: less than half of the bytes.
func Packed(arch string) ([]byte, error) { return packed(programs, arch) }

func packed(programs fs.FS, arch string) ([]byte, error) {
	packed, err := fs.ReadFile(programs, "programs/courier-"+arch+".gz")
	if err != nil {
		return nil, fmt.Errorf("%w for %s; hint: `make build` builds it in, and linux/amd64 and linux/arm64 are what it is for",
			ErrNotEmbedded, arch)
	}
	return packed, nil
}
