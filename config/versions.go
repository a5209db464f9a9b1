package config

import (
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Newest is the Kubernetes version that a document without one gets.
const Newest = "v1.37.2"

// FlannelVersion is the tag of flannel's image. Flannel is not bound to a version of Kubernetes.
const FlannelVersion = "v0.28.10"

// HAProxyVersion and KeepalivedVersion are the tags of the load balancer's images. What is rendered for HAProxy asks for
// nothing that 2.6, which distributions keep for years, does not know.
const (
	HAProxyVersion    = "2.6"
	KeepalivedVersion = "2.0.20"
)

// Versions is what goes with one minor version of Kubernetes: the tags of the images that are not Kubernetes' own.
type Versions struct {
	Minor   string // v1.37
	Newest  string // the newest patch release that myadm knows of: v1.37.2
	Etcd    string // 3.7.0-0
	CoreDNS string // v1.14.6
	Pause   string // 3.10.2
}

// table has a row for each supported minor version, oldest first and without holes, since upgrades go through each.
// The tags are those in kubeadm's constants at the row's newest patch release.
var table = [...]Versions{
	{Minor: "v1.36", Newest: "v1.36.3", Etcd: "3.6.8-0", CoreDNS: "v1.14.2", Pause: "3.10.2"},
	{Minor: "v1.37", Newest: Newest, Etcd: "3.7.0-0", CoreDNS: "v1.14.6", Pause: "3.10.2"},
}

// Supported lists the minor versions, oldest first: v1.36, v1.37.
func Supported() []string {
	minors := make([]string, len(table))
	for i, v := range table {
		minors[i] = v.Minor
	}
	return minors
}

// ParseVersion reads a Kubernetes version, written vX.Y.Z as Kubernetes writes it (a pre-release may follow). Whether
// myadm supports it is VersionsOf's to say.
func ParseVersion(s string) (*semver.Version, error) {
	number, ok := strings.CutPrefix(s, "v")
	v, err := semver.StrictNewVersion(number)
	if !ok || err != nil {
		return nil, fmt.Errorf("%q is not a Kubernetes version; hint: write it as %s", s, Newest)
	}
	return v, nil
}

// VersionsOf gives what goes with a Kubernetes version. Every patch release of a supported minor will do, also one that
// is newer than myadm.
func VersionsOf(kubernetesVersion string) (Versions, error) {
	v, err := ParseVersion(kubernetesVersion)
	if err != nil {
		return Versions{}, err
	}
	minor := fmt.Sprintf("v%d.%d", v.Major(), v.Minor())
	for _, row := range table {
		if row.Minor == minor {
			return row, nil
		}
	}
	return Versions{}, fmt.Errorf("Kubernetes %s is not supported; hint: use %s, such as %s", kubernetesVersion, oneOf(Supported()), Newest)
}
