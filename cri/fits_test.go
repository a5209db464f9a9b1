package cri_test

import (
	"strings"
	"testing"

	"github.com/myadm/myadm/cri"
)

func TestFits(t *testing.T) {
	for _, test := range []struct {
		kubernetes, name, version string
		want                      string // of the error; empty: it fits
	}{
		{"v1.37.2", "containerd", "v2.4.2", ""},
		{"v1.36.0", "containerd", "2.0.0", ""},
		{"v1.37.2", "containerd", "1.7.24", ""},
		{"v1.37.2", "containerd", "1.6.20~ds1", ""},
		{"v1.37.2", "containerd", "1.6.15", ""},
		{"v1.37.2", "containerd", "1.6.14", "containerd 1.6.14 is too old for Kubernetes 1.37: it has to speak CRI v1; hint: "},
		{"v1.36.3", "containerd", "1.4.13", "update containerd to 1.6.15 or later"},
		{"v1.38.0", "containerd", "v2.0.0-rc.1", ""},
		{"v1.38.0", "containerd", "v2.0.0", ""},
		{"v1.38.0", "containerd", "1.7.30", "containerd 1.7.30 is too old for Kubernetes 1.38: it has to tell its cgroup driver"},
		{"v1.38.0-rc.0", "containerd", "1.7.30", "update containerd to 2.0.0 or later"},
		{"v1.40.1", "containerd", "1.7.30", "too old for Kubernetes 1.40"},
		{"v1.37.2", "cri-o", "1.37.0", ""},
		{"v1.37.2", "cri-o", "1.37.9-dev", ""},
		{"v1.37.2", "cri-o", "1.36.1", ""},
		{"v1.37.2", "cri-o", "1.35.4", ""},
		{"v1.36.3", "cri-o", "1.34", ""},
		{"v1.37.2", "cri-o", "1.34.9", "CRI-O 1.34.9 does not go with Kubernetes 1.37; hint: "},
		{"v1.37.2", "cri-o", "1.38.0", "install CRI-O 1.37"},
		{"v1.37.2", "cri-o", "2.37.0", "does not go with"},
		{"v1.37.2", "docker", "29.0.0", `runtime "docker" is neither containerd nor cri-o, of which myadm knows what fits; hint: `},
		{"v1.37.2", "", "1.0.0", `runtime "" is neither`},
		{"v1.37.2", "containerd", "", `containerd version "" is not one such as`},
		{"v1.37.2", "containerd", "<unknown>", `containerd version "<unknown>" is not`},
		{"stable", "containerd", "2.0.0", `Kubernetes version "stable" is not`},
	} {
		err := cri.Fits(test.kubernetes, test.name, test.version)
		if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s on %s %s: %v; want %q", test.kubernetes, test.name, test.version, err, test.want)
		}
	}
}

// FuzzFits: whatever a runtime calls itself, the answer is one line of a bounded length.
func FuzzFits(f *testing.F) {
	f.Add("v1.37.2", "containerd", "v2.4.2")
	f.Add("v1.38.0", "cri-o", "1.37.0-dev+unknown")
	f.Add("1.99999999999999999999", "containerd", "18446744073709551616.0.0")
	f.Fuzz(func(t *testing.T, kubernetes, name, version string) {
		err := cri.Fits(kubernetes, name, version)
		if err != nil && (len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "\n\x1b")) {
			t.Errorf("%q", err)
		}
	})
}
