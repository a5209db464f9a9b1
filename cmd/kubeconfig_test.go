package cmd

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
)

func TestKubeconfigIsForItsOwnerAlone(t *testing.T) {
	f := hosttest.New(t, "cp-1")
	f.Put(host.File{Path: config.AdminConf, Mode: 0o600, Data: []byte("secret")})
	n := &cluster.Node{Host: f}
	dir := t.TempDir()
	path := filepath.Join(dir, "admin.conf")
	if err := os.WriteFile(path, []byte("an older one that all can read"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := saveKubeconfig(t.Context(), n, path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || string(data) != "secret" || info.Mode().Perm() != 0o600 {
		t.Errorf("%q with mode %v, %v", data, info.Mode(), err)
	}
	onlyThere(t, dir, "admin.conf")
}

func TestKubeconfigThatCannotBeWritten(t *testing.T) {
	f := hosttest.New(t, "cp-1")
	n := &cluster.Node{Host: f}
	dir := t.TempDir()
	path := filepath.Join(dir, "admin.conf")
	if err := saveKubeconfig(t.Context(), n, path); err == nil || !strings.Contains(err.Error(), config.AdminConf) {
		t.Errorf("without a cluster: %v", err)
	}
	f.Put(host.File{Path: config.AdminConf, Mode: 0o600, Data: []byte("secret")})
	if err := saveKubeconfig(t.Context(), n, filepath.Join(dir, "missing", "admin.conf")); err == nil || !strings.HasPrefix(err.Error(), "write the kubeconfig: ") {
		t.Errorf("into a folder that is not there: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(path, "x"), 0o755); err != nil { // a folder in its place
		t.Fatal(err)
	}
	if err := saveKubeconfig(t.Context(), n, path); err == nil {
		t.Error("in the place of a folder: no error")
	}
	onlyThere(t, dir, "admin.conf")
}

// onlyThere fails the test for anything in a folder besides name: a temporary file holds the same secret.
func onlyThere(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := fs.ReadDir(os.DirFS(dir), ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != name {
			t.Errorf("%s is left", e.Name())
		}
	}
}
