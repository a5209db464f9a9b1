//go:build e2e

package main

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMyadmWorksOnAFarm: what bench measures with hundreds of hosts ends well with a few; there are hosts of every role.
func TestMyadmWorksOnAFarm(t *testing.T) {
	myadm := filepath.Join(t.TempDir(), "myadm")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", myadm, "../../cmd/myadm").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b := &bench{myadm: myadm}
	s, err := b.farm(t.Context(), farmControlPlanes+1)
	if err != nil {
		t.Fatal(err)
	}
	if s.Apply.Seconds == 0 || s.Apply.CPU == 0 || s.Apply.Peak == 0 || s.Again.Seconds == 0 {
		t.Errorf("it has not measured something: %+v", s)
	}
}
