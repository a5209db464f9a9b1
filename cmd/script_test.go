package cmd

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/myadm/myadm/bundle"
)

var update = flag.Bool("update", false, "rewrite what the scripts compare output with")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"myadm": func() {
			os.Exit(Main(context.Background(), os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
	})
}

// TestScripts runs testdata/script/*.txtar. They need no root, no host and no network: what they show is decided before
// a host is asked. `status CODE` after a command tells its exit code, and $BUNDLE is a bundle of Kubernetes v1.36.3.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("BUNDLE", filepath.Join(env.WorkDir, "bundle-v1.36.3"))
			return makeBundle(filepath.Join(env.WorkDir, "bundle-v1.36.3"), "v1.36.3")
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"status": wantStatus},
	})
}

func makeBundle(dir, version string) error {
	w, err := bundle.Create(dir, version)
	if err != nil {
		return err
	}
	kubelet := bundle.Artifact{
		Name: "kubelet", Version: version, OS: "linux", Arch: "amd64",
		Roles: []bundle.Role{bundle.RoleNode}, Target: "/usr/local/bin/kubelet", Mode: 0o755,
	}
	if err := w.AddBinary(kubelet, strings.NewReader("kubelet")); err != nil {
		return err
	}
	return w.Close()
}

// wantStatus is status CODE COMMAND...: it runs a command that must end with an exit code.
func wantStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		code = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if code != args[0] {
		ts.Fatalf("%s: exit status %s, want %s", strings.Join(args[1:], " "), code, args[0])
	}
}
