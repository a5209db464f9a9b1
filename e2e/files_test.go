//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myadm/myadm/e2e/lab"
)

// listing is what there is, by name, with what is to be compared of it.
type listing map[string]string

// difference lists what is there in one listing only, or differs, by name; it is empty when they are equal.
func (before listing) difference(after listing) string {
	names := map[string]bool{}
	for _, l := range []listing{before, after} {
		for name := range l {
			names[name] = true
		}
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, had := before[name]
		is, has := after[name]
		if had && (!has || was != is) {
			fmt.Fprintf(&out, "- %s\t%s\n", name, was)
		}
		if has && (!had || was != is) {
			fmt.Fprintf(&out, "+ %s\t%s\n", name, is)
		}
	}
	return out.String()
}

// touched lists what myadm keeps on a host, such that even writing the same bytes again shows: by inode, and by the time
// of the last change of inode or content, which no program can set.
func (s *site) touched(t *testing.T, host string) listing {
	t.Helper()
	return s.list(t, host, `
		roots='/etc /usr /opt /root /home /var/lib/cni /run/flannel /etc/containerd /var/lib/kubelet/pki'
		for file in config.yaml instance-config.yaml kubeadm-flags.env; do roots="$roots /var/lib/kubelet/$file"; done
		for root in $roots; do
			if [ -e "$root" ]; then find "$root" -xdev -printf '%p\t%y %m %U:%G inode %i, %s bytes, changed %C@, modified %T@ %l\n'; fi
		done`)
}

// unlisted is what changes on a host that nobody touches, or by somebody's logging in.
var unlisted = []string{
	"/var/log/journal",             // systemd's
	"/var/log/wtmp",                // sshd counts logins
	"/var/log/lastlog",             //
	"/var/log/btmp",                // and those that fail
	"/var/lib/systemd/timers",      // when timers last ran
	"/var/lib/systemd/timesync",    // the clock, as last known
	"/var/lib/sudo/lectured",       // whom sudo has told once what root may do
	"/var/cache/ldconfig",          // an index that is made anew at will
	"/var/lib/systemd/random-seed", // made at shutdown
}

// volumes are file systems of their own on a lab's host. What is in them is listed; the folders themselves stay where they
// are, with the modes that containerd and etcd give them.
var volumes = []string{"/var/lib/containerd", "/var/lib/etcd", "/var/lib/kubelet"}

// everything lists the host's disks by content: all but what unlisted names, and what is gone at the next boot.
func (s *site) everything(t *testing.T, host string) listing {
	t.Helper()
	find := "find /"
	for _, path := range volumes {
		find += " " + path + "/."
	}
	find += " -xdev -mindepth 1"
	for _, path := range slices.Concat(unlisted, volumes) {
		find += " -path " + path + " -prune -o"
	}
	// A folder's size and times tell of what once was in it, and not of what is.
	return s.list(t, host, find+` -type f -printf '%p\t%y %m %U:%G %s bytes\n' -o -printf '%p\t%y %m %U:%G %l\n'
		`+find+` -type f -print0 | xargs -0 sha256sum --zero | tr '\0' '\n' | sed 's/^\([0-9a-f]*\)  \(.*\)/\2 (content)\t\1/'`)
}

// list reads the lines PATH TAB TEXT that a script prints.
func (s *site) list(t *testing.T, host, script string) listing {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var stdout, stderr strings.Builder
	if err := s.Exec(ctx, host, lab.Streams{Out: &stdout, Err: &stderr}, "sh", "-euc", script); err != nil {
		t.Fatalf("list the files of %s: %v: %s", host, err, stderr.String())
	}
	files := listing{}
	for line := range strings.Lines(stdout.String()) {
		path, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok {
			t.Fatalf("list the files of %s: line %q", host, line)
		}
		files[path] = text
	}
	if len(files) < 1000 {
		t.Fatalf("%s has only %d files; the listing is wrong", host, len(files))
	}
	return files
}
