package hosttest

import (
	"math/rand/v2"
	"testing"

	"github.com/myadm/myadm/host"
)

// Conformance proves that a Host keeps the promises of package host: ConformFiles, ConformCommands, ConformMounts and
// ConformDial. The host shares this machine's files, processes and network. open gives a Host, and root a new empty folder
// on it.
func Conformance(t *testing.T, open func(t *testing.T) host.Host, root func(t *testing.T) string) {
	ConformFiles(t, open, root)
	ConformCommands(t, open, root)
	ConformMounts(t, open, root)
	ConformDial(t, open, root)
}

// ConformFiles is the part of Conformance about files. It runs no commands.
func ConformFiles(t *testing.T, open func(t *testing.T) host.Host, root func(t *testing.T) string) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, h host.Host, dir string)
	}{
		{"write and read", writeAndRead},
		{"write replaces", writeReplaces},
		{"write fails", writeFails},
		{"write many", writeMany},
		{"write is atomic", writeIsAtomic},
		{"write after a killed write", writeAfterKill},
		{"read", readMissing},
		{"stat", statEverything},
		{"remove", removeEverything},
		{"upload", upload},
		{"upload resumes", uploadResumes},
		{"upload of wrong content", uploadWrong},
		{"upload of what cannot be opened", uploadUnopened},
		{"context", filesStop},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t), root(t)) })
	}
}

// must ends the test for an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// one is the Info of a path, with its sum.
func one(t *testing.T, h host.Host, p string) host.Info {
	t.Helper()
	infos, err := h.Sums(t.Context(), p)
	must(t, err)
	if len(infos) != 1 {
		t.Fatalf("sums of one path: %v", infos)
	}
	return infos[0]
}

func content(t *testing.T, h host.Host, p string) string {
	t.Helper()
	data, err := h.ReadFile(t.Context(), p)
	must(t, err)
	return string(data)
}

// noise is content that does not compress and is the same for the same seed.
func noise(size int, seed uint64) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(b) //nolint:errcheck // it never fails
	return b
}
