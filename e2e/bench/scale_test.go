//go:build e2e

package main

import (
	"path/filepath"
	"testing"
)

// TestMyadmWorksOnAFarm: what bench measures with hundreds of hosts ends well with a few; there are hosts of every role. The
// binary is that of make build, which make e2e has run.
func TestMyadmWorksOnAFarm(t *testing.T) {
	myadm, err := filepath.Abs(filepath.Join("..", "..", "bin", "myadm"))
	if err != nil {
		t.Fatal(err)
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
