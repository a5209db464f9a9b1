package cmd

import (
	"strings"
	"testing"
)

// Where preflight does not run, the version is checked all the same.
func TestUpgradeChecksTheVersion(t *testing.T) {
	for _, tt := range []struct {
		name  string
		flags upgradeFlags
		want  string
	}{
		{"preflight says more of it", upgradeFlags{}, ""},
		{"skipped", upgradeFlags{selection: selection{skip: []string{"preflight"}}}, "add --force"},
		{"another phase only", upgradeFlags{selection: selection{only: []string{"workers"}}}, "add --force"},
		{"preflight too", upgradeFlags{selection: selection{only: []string{"workers", "preflight"}}}, ""},
		{"ignored", upgradeFlags{selection: selection{only: []string{"workers"}, ignorePreflight: []string{"version-policy"}}}, ""},
		{"forced", upgradeFlags{force: true, selection: selection{only: []string{"workers"}}}, ""},
	} {
		err := tt.flags.checkVersion("v1.37.3", "v1.37.2")
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
