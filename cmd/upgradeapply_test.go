package cmd

import "testing"

// Where preflight does not run, the version is checked all the same.
func TestUpgradePassesPreflight(t *testing.T) {
	for _, tt := range []struct {
		name  string
		flags selection
		want  bool
	}{
		{"it runs", selection{}, false},
		{"skipped", selection{skip: []string{"preflight"}}, true},
		{"another phase only", selection{only: []string{"workers"}}, true},
		{"it too", selection{only: []string{"workers", "preflight"}}, false},
		{"ignored", selection{only: []string{"workers"}, ignorePreflight: []string{"version-policy"}}, false},
	} {
		flags := upgradeFlags{selection: tt.flags}
		if got := flags.passesPreflight(); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}
