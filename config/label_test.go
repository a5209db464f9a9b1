package config

import (
	"strings"
	"testing"
)

func TestParseLabel(t *testing.T) {
	for _, text := range []string{"stable", "stable-1", "stable-1.37", "latest", "latest-1.37"} {
		if label, err := ParseLabel(text); err != nil || label.String() != text || !IsLabel(text) {
			t.Errorf("ParseLabel(%q) = %v, %v", text, label, err)
		}
	}
	for _, text := range []string{
		"", "newest", "Stable", "stable-", "stable-v1.37", "stable-1.37.2", "stable-01", "stable-1.037", "stable-1.", "v1.37.2", " stable", "stable\n",
		"stable-../x", "stable-1.37/../../x", "ci/latest", "stable-99999",
	} {
		if label, err := ParseLabel(text); err == nil {
			t.Errorf("ParseLabel(%q) = %v", text, label)
		}
	}
}

func TestLabelCovers(t *testing.T) {
	for _, tt := range []struct {
		label, version string
		want           bool
	}{
		{"stable", "v1.37.2", true},
		{"stable", "1.37.2", false},
		{"stable-1", "v1.37.2", true},
		{"stable-1", "v2.0.0", false},
		{"stable-1.37", "v1.37.2", true},
		{"latest-1.37", "v1.37.3-rc.0", true},
		{"stable-1.37", "v1.36.3", false},
		{"stable-1.3", "v1.37.2", false},
		{"stable", "v1.38.0-rc.1", false},
		{"latest", "v1.38.0-rc.1", true},
		{"latest", "v1.38", false},
	} {
		label, err := ParseLabel(tt.label)
		if err != nil {
			t.Fatal(err)
		}
		if got := label.Covers(tt.version); got != tt.want {
			t.Errorf("%s covers %s: %v", tt.label, tt.version, got)
		}
	}
}

func TestCheckWanted(t *testing.T) {
	for text, want := range map[string]string{
		"v1.37.2": "", "v1.36.99": "", "stable": "", "latest-1": "", "stable-1.36": "", "latest-1.37": "",
		"v1.30.0":     "Kubernetes v1.30.0 is not supported; hint: use v1.36 or v1.37",
		"stable-1.30": "no Kubernetes version of stable-1.30 is supported; hint: use v1.36 or v1.37",
		"latest-2":    "no Kubernetes version of latest-2 is supported",
		"newest":      `"newest" is not a Kubernetes version; hint: write it as v1.37.2, or as a label: stable, stable-1.37, latest-1.37`,
	} {
		err := CheckWanted(text)
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
