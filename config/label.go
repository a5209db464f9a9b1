package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Label is a name for a version of Kubernetes that moves: stable, latest, or the same of a major or minor version
// (stable-1, stable-1.37). Its makers publish which version it is today.
type Label struct {
	text  string
	minor string // "1.37", "1" or empty: what versions it stands for begin with
}

// As kubeadm's, without those of its continuous integration, which is not published for users.
var labelPattern = regexp.MustCompile(`^(stable|latest)(-([1-9][0-9]{0,2}(\.(0|[1-9][0-9]{0,3}))?))?$`)

// ParseLabel reads a label.
func ParseLabel(text string) (Label, error) {
	parts := labelPattern.FindStringSubmatch(text)
	if parts == nil {
		return Label{}, fmt.Errorf("%q is not a label of Kubernetes versions; hint: use stable, or stable-1.37, or latest-1.37", text)
	}
	return Label{text: text, minor: parts[3]}, nil
}

// IsLabel tells whether a text is a label.
func IsLabel(text string) bool { return labelPattern.MatchString(text) }

// String is the label itself.
func (l Label) String() string { return l.text }

// Covers reports whether the label may stand for a version: stable-1.37 never does for v1.36.3, and stable never for
// v1.38.0-rc.1.
func (l Label) Covers(version string) bool {
	v, err := ParseVersion(version)
	if err != nil || strings.HasPrefix(l.text, "stable") && v.Prerelease() != "" {
		return false
	}
	return l.minor == "" || strings.HasPrefix(version, "v"+l.minor+".")
}

// CheckWanted tells whether a text may be the version of a cluster: a version that VersionsOf knows, or a label that may
// stand for one.
func CheckWanted(text string) error {
	label, err := ParseLabel(text)
	if err != nil {
		if _, err := ParseVersion(text); err != nil {
			return fmt.Errorf("%q is not a Kubernetes version; hint: write it as %s, or as a label: stable, stable-1.37, latest-1.37", text, Newest)
		}
		_, err := VersionsOf(text)
		return err
	}
	if !slices.ContainsFunc(Supported(), func(minor string) bool { return label.Covers(minor + ".0") }) {
		return fmt.Errorf("no Kubernetes version of %s is supported; hint: use %s, such as %s", text, oneOf(Supported()), Newest)
	}
	return nil
}
