package build

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A link with an absolute target stays below the root: followed by the system it would reach this machine's file.
func TestResolveStaysBelowRoot(t *testing.T) {
	root := t.TempDir()
	err := errors.Join(os.MkdirAll(filepath.Join(root, "lib/x86"), 0o755), os.Mkdir(filepath.Join(root, "lib64"), 0o755),
		os.WriteFile(filepath.Join(root, "lib/x86/ld-2.so"), nil, 0o755),
		os.Symlink("ld-2.so", filepath.Join(root, "lib/x86/ld.so")),
		os.Symlink("/lib/x86/ld.so", filepath.Join(root, "lib64/ld.so")),
		os.Symlink("/lib64/loop", filepath.Join(root, "lib64/loop")))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := resolve(root, "lib64/ld.so"); err != nil || got != filepath.Join(root, "lib/x86/ld-2.so") {
		t.Errorf("resolved to %s, %v", got, err)
	}
	if _, err := resolve(root, "lib64/loop"); err == nil || !strings.Contains(err.Error(), "too many links") {
		t.Errorf("a loop gave %v", err)
	}
}

// A library is looked for by its name below the root, and what no package has is an error that says who wants it.
func TestClosureSaysWhatIsMissing(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "script"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := closure(root, "x86", []string{"script"}); err == nil || !strings.Contains(err.Error(), "script: ") {
		t.Errorf("a script gave %v", err)
	}
	if _, err := findLibrary(root, "x86", "libc.so.6"); err == nil || !strings.Contains(err.Error(), "no package has it") {
		t.Errorf("a missing library gave %v", err)
	}
}

func TestIptablesLinks(t *testing.T) {
	links := iptablesLinks()
	for name, want := range map[string]string{
		"usr/sbin/iptables":                 "xtables-nft-multi",
		"usr/sbin/ip6tables-restore":        "xtables-nft-multi",
		"usr/sbin/iptables-nft-save":        "xtables-nft-multi",
		"usr/sbin/ip6tables-legacy-restore": "xtables-legacy-multi",
	} {
		if links[name] != want {
			t.Errorf("%s -> %q, want %s", name, links[name], want)
		}
	}
}
