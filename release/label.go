package release

import (
	"fmt"
	"regexp"
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

// String is the label itself.
func (l Label) String() string { return l.text }

// URL is where the version of the label is published, as one line of text.
func (l Label) URL() string { return kubernetesReleases + l.text + ".txt" }

// Covers reports whether the label may stand for a version: stable-1.37 never does for v1.36.3.
func (l Label) Covers(version string) bool {
	if !strings.HasPrefix(version, "v") {
		return false
	}
	return l.minor == "" || strings.HasPrefix(version, "v"+l.minor+".")
}
