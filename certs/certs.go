// Package certs is a cluster's public key infrastructure: three authorities, the certificates that they sign, the
// kubeconfigs that embed some of them, and the key pair that signs service account tokens.
//
// The package is pure. The content of a host's files and a cluster's Settings go in, what is wrong and the content of new
// files come out; reading and writing is the caller's. What must exist is data, the tables in tables.go. Names, subjects,
// usages and places are kubeadm's, so that either tool can carry on with what the other made.
//
// A valid file is never replaced. A certificate that does not serve is issued anew; a kubeconfig that only points to the
// wrong server keeps its credentials. An authority is never issued anew: that would cut off every component and user that
// trusts it, and so one that does not serve is an error.
package certs

import (
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/myadm/myadm/config"
)

// Files is what stands on a host: the content of each file by its absolute path. A path that is not in it does not exist.
type Files map[string][]byte

// File is a file to write. Its owner is root.
type File struct {
	Path string
	Mode fs.FileMode // 0600 for what holds a private key, 0644 for certificates
	Data []byte
}

// Finding is something that Issue would make.
type Finding struct {
	Name   string   // of a row in the tables, as "apiserver" or "admin.conf"; "sa" is the service account key pair
	Paths  []string // what would be written
	Reason string   // as "missing", "expired on 2027-01-01", "lacks SAN 10.0.0.1"
}

// Paths returns every file that Check, Issue and Expirations look at, so that a caller can read them in one trip. Not all
// of them are wanted on every host.
func Paths() []string {
	var paths []string
	for _, c := range certificates {
		paths = append(paths, c.certPath(), c.keyPath())
	}
	paths = append(paths, saKey, saPub)
	return append(append(paths, KubeconfigPaths()...), config.KubeletClientCert)
}

// KubeconfigPaths returns the kubeconfigs among Paths.
func KubeconfigPaths() []string {
	var paths []string
	for _, k := range kubeconfigs {
		paths = append(paths, k.path)
	}
	return paths
}

// Check compares a host's files with what the settings want, and returns what Issue would make, in the order of the
// tables; nothing when all is well. All errors come at once. Each names a file that only a human may replace: one that
// cannot be parsed, an authority that does not serve, or a certificate whose authority has no key here to sign another.
func Check(have Files, s Settings, now time.Time) ([]Finding, error) {
	tasks, err := survey(have, s, now)
	return findings(tasks), err
}

// findings are what the tasks would make.
func findings(tasks []*task) []Finding {
	var list []Finding
	for _, t := range tasks {
		list = append(list, t.Finding)
	}
	return list
}

// Issue makes what Check finds, with new keys, and returns the files in an order in which they can be written one by one:
// after every single write, Check and Issue go on where the last run was cut. Stages tells what can be written at once.
// Errors are those of Check. Randomness is the system's, as crypto/ecdsa and crypto/rsa accept no other.
func Issue(have Files, s Settings, now time.Time) ([]File, error) {
	tasks, err := survey(have, s, now)
	if err != nil {
		return nil, err
	}
	return issueAll(tasks, s.KeyAlgorithm)
}

// issueAll makes what the tasks say, with new keys where they need one, in the order in which it can be written.
func issueAll(tasks []*task, algorithm string) ([]File, error) {
	if err := generateKeys(tasks, algorithm); err != nil {
		return nil, err
	}
	var files []File
	for _, t := range tasks {
		made, err := t.issue(t.key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		for _, f := range made {
			if slices.Contains(t.Paths, f.Path) {
				files = append(files, f)
			}
		}
	}
	return slices.Concat(Stages(files)...), nil
}

// Stages splits the files of Issue. Those of one stage may be written at the same time, but only after all of the stage
// before: an authority's certificate whose key was not written cannot be told from an external authority's.
func Stages(files []File) [][]File {
	var first, rest []File
	for _, f := range files {
		if slices.ContainsFunc(certificates, func(c certificate) bool { return c.isCA() && c.keyPath() == f.Path }) {
			first = append(first, f)
		} else {
			rest = append(rest, f)
		}
	}
	return slices.DeleteFunc([][]File{first, rest}, func(stage []File) bool { return len(stage) == 0 })
}

// survey looks at every row of the tables and returns what is to be made.
func survey(have Files, s Settings, now time.Time) ([]*task, error) {
	v, err := newSurveyor(have, s, now)
	if err != nil {
		return nil, err
	}
	for _, c := range s.rows() {
		if c.isCA() {
			v.authority(c)
		} else {
			v.certificate(c)
		}
	}
	if s.ExternalEtcd {
		v.externalEtcd()
	}
	v.serviceAccount()
	for _, k := range kubeconfigs {
		if s.First || !k.first {
			v.kubeconfig(k)
		}
	}
	return v.result()
}
