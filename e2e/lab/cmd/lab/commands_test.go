package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseUsers(t *testing.T) {
	tests := []struct {
		values  []string
		all     string
		single  map[string]string
		wantErr bool
	}{
		{nil, "", map[string]string{}, false},
		{[]string{"ops"}, "ops", map[string]string{}, false},
		{[]string{"ops", "h2=root", "h3=ops-pw"}, "ops", map[string]string{"h2": "root", "h3": "ops-pw"}, false},
		{[]string{"ops", "root"}, "", nil, true},
		{[]string{"=root"}, "", nil, true},
		{[]string{"h1="}, "", nil, true},
	}
	for _, tt := range tests {
		all, single, err := parseUsers(tt.values)
		if all != tt.all || !cmp.Equal(single, tt.single) || (err != nil) != tt.wantErr {
			t.Errorf("%v: got %q, %v, %v", tt.values, all, single, err)
		}
	}
}

// Wrong usage is told before anything is touched.
func TestUsage(t *testing.T) {
	tests := []struct {
		args string
		want string
	}{
		{"up", `required flag(s) "dir" not set`},
		{"up --dir d --hosts 2 --control-planes 3", "3 control planes of 2 hosts"},
		{"kill --dir d", "accepts 1 arg(s), received 0"},
		{"exec h1 --dir d", "requires at least 2 arg(s)"},
		{"cp h1 source --dir d", "accepts 3 arg(s), received 2"},
		{"mirror up --dir d", `required flag(s) "bundle" not set`},
		{"mirror up --dir d --bundle b --label stable", "--label stable: want KEY=VALUE"},
		{"mirror fault die --dir d", "want KIND and PATH, or neither, or --heal alone"},
		{"mirror fault die / --heal --dir d", "want KIND and PATH, or neither, or --heal alone"},
	}
	for _, tt := range tests {
		cmd := newCommand()
		cmd.SetArgs(strings.Fields(tt.args))
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("lab %s: got %v, want %s", tt.args, err, tt.want)
		}
	}
}

func TestFindComponents(t *testing.T) {
	root := t.TempDir()
	components := filepath.Join(root, "e2e", "components")
	if err := os.MkdirAll(filepath.Join(components, "etcd-3.7"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(components, "etcd-3.7"))
	if got, err := findComponents(); err != nil || got != components {
		t.Errorf("below: %s, %v; want %s", got, err, components)
	}
	t.Chdir(t.TempDir())
	if got, err := findComponents(); err == nil {
		t.Errorf("elsewhere: %s", got)
	}
}

func TestReport(t *testing.T) {
	exit7 := exec.Command("sh", "-c", "exit 7").Run()
	tests := []struct {
		name        string
		err         error
		interrupted bool
		code        int
		out         string
	}{
		{"done", nil, false, 0, ""},
		{"failed", errors.New("no lab"), false, 1, "lab: no lab\n"},
		{"interrupted", context.Canceled, true, 130, "lab: context canceled\n"},
		{"a command on a host", asRemote(fmt.Errorf("h1: sh: %w", exit7)), false, 7, ""},
		{"a command that could not be run", asRemote(exec.ErrNotFound), false, 1, "lab: executable file not found in $PATH\n"},
	}
	for _, tt := range tests {
		var out strings.Builder
		if code := report(&out, tt.err, tt.interrupted); code != tt.code || out.String() != tt.out {
			t.Errorf("%s: exit code %d, says %q; want %d, %q", tt.name, code, out.String(), tt.code, tt.out)
		}
	}
}
