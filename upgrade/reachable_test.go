package upgrade

import (
	"slices"
	"strings"
	"testing"
)

func TestCheckTarget(t *testing.T) {
	tests := []struct {
		from, to string
		force    bool
		err      string // part of it; empty: allowed
	}{
		{"v1.36.3", "v1.37.2", false, ""},
		{"v1.36.3", "v1.36.3", false, ""}, // carries on
		{"v1.36.1", "v1.36.3", false, ""},
		{"v1.35.4", "v1.36.3", false, ""},
		{"v1.37.2", "v1.37.9", false, ""},
		{"v1.36.3", "v1.37.3-rc.0", false, ""},
		{"v1.37.3-rc.0", "v1.37.3", false, ""},
		{"v1.37.2+vendor", "v1.37.2", false, ""},
		{"v1.37.2", "v1.37.0", false, "v1.37.0 is older than v1.37.2; hint: add --force to go back to it"},
		{"v1.37.2", "v1.37.0", true, ""},
		{"v1.37.3", "v1.37.3-rc.0", false, "--force"},
		{"v1.37.3", "v1.37.3-rc.0", true, ""},
		{"v1.37.2", "v1.36.3", false, "v1.36.3 is an older minor version than v1.37.2, and Kubernetes cannot go back to one; hint: stay at v1.37.2, nothing that this myadm knows follows it, or restore a backup"},
		{"v1.37.2", "v1.36.3", true, "older minor version"},
		{"v1.37.0", "v1.36.3", true, "hint: upgrade to v1.37.2 first, or restore"},
		{"v1.35.4", "v1.37.2", true, "from v1.35.4 to v1.37.2 an upgrade would skip v1.36; hint: upgrade to v1.36.3 first"},
		{"v1.36.1", "v1.38.0", false, "would skip v1.37; hint: upgrade to v1.36.3 or v1.37.2 first"},
		{"v1.34.4", "v1.37.2", false, "would skip v1.35; hint: use a myadm that knows v1.34.4"},
		{"v1.37.2", "v1.38.0", false, "Kubernetes v1.38.0 is not supported; hint: use v1.36 or v1.37"},
		{"v1.34.4", "v1.35.4", false, "Kubernetes v1.35.4 is not supported"},
		{"v1.37.2", "v2.0.0", true, "v1.37.2 and v2.0.0 are different major versions"},
		{"v2.0.0", "v1.37.2", true, "different major versions"},
		{"", "v1.37.2", false, `API server version: "" is not a Kubernetes version`},
		{"v1.36.3", "1.37", false, `"1.37" is not a Kubernetes version`},
	}
	for _, tt := range tests {
		t.Run(tt.from+" "+tt.to, func(t *testing.T) {
			err := CheckTarget(tt.from, tt.to, tt.force)
			if tt.err == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
		})
	}
}

func TestReachable(t *testing.T) {
	for from, want := range map[string][]string{
		"v1.36.1":      {"v1.36.3", "v1.37.2"},
		"v1.36.3":      {"v1.37.2"},
		"v1.36.9":      {"v1.37.2"}, // newer than myadm knows
		"v1.35.4":      {"v1.36.3"},
		"v1.37.2-rc.0": {"v1.37.2"},
		"v1.37.2":      nil,
		"v1.34.0":      nil,
		"v1.38.0":      nil,
		"v0.36.0":      nil,
		"":             nil,
	} {
		got := Reachable(from)
		if !slices.Equal(got, want) {
			t.Errorf("Reachable(%s) = %q, want %q", from, got, want)
		}
		for _, to := range got {
			if err := CheckTarget(from, to, false); err != nil {
				t.Errorf("%s is said to be reachable from %s: %v", to, from, err)
			}
		}
	}
}
