package cri

import (
	"fmt"
	"regexp"

	"github.com/Masterminds/semver/v3"
)

// The runtimes that myadm knows, by the names that they give themselves.
const (
	Containerd = "containerd"
	CRIO       = "cri-o"
)

// containerdNeeds are the least versions of containerd, from the newest version of Kubernetes that needs more.
var containerdNeeds = []struct {
	kubernetes string // this minor version and later ones
	least      string
	why        string
}{
	// KEP-4033, in keps/sig-node of github.com/kubernetes/enhancements. The kubelet of 1.36 and 1.37 falls back to its own
	// cgroupDriver and says that this ends with 1.38 (getCgroupDriverFromCRI in cmd/kubelet/app/server.go).
	{"1.38", "2.0.0", "it has to tell its cgroup driver (CRI's RuntimeConfig)"},
	// "Kubernetes Support" in RELEASES.md of github.com/containerd/containerd: 1.6.15+ and 1.7.0+ since Kubernetes 1.26.
	{"1.26", "1.6.15", "it has to speak CRI v1"},
}

// crioSkew is by how many minor versions CRI-O may be behind Kubernetes: "CRI-O also follows the Kubernetes n-2 release
// version skew policy", README.md of github.com/cri-o/cri-o. Its versions are numbered as Kubernetes' are.
const crioSkew = 2

// leading is the part of a version that counts. Distributions add to it what is no semantic version ("1.6.20~ds1").
var leading = regexp.MustCompile(`^v?([0-9]+\.[0-9]+(\.[0-9]+)?)`)

// Fits tells why a runtime, as Version has it, does not go with a version of Kubernetes ("v1.37.2"). A pre-release counts as
// its release.
func Fits(kubernetesVersion, runtimeName, runtimeVersion string) error {
	var fits func(kubernetes, found *semver.Version) error
	switch runtimeName {
	case Containerd:
		fits = fitsContainerd
	case CRIO:
		fits = fitsCRIO
	default:
		return fmt.Errorf("runtime %.40q is neither containerd nor cri-o, of which myadm knows what fits; "+
			"hint: with runtime.type containerd myadm installs one", runtimeName)
	}
	kubernetes, err := version(kubernetesVersion)
	if err != nil {
		return fmt.Errorf("Kubernetes %w", err)
	}
	found, err := version(runtimeVersion)
	if err != nil {
		return fmt.Errorf("%s %w", runtimeName, err)
	}
	return fits(kubernetes, found)
}

func fitsContainerd(kubernetes, found *semver.Version) error {
	for _, need := range containerdNeeds {
		if kubernetes.LessThan(semver.MustParse(need.kubernetes)) {
			continue
		}
		if found.LessThan(semver.MustParse(need.least)) {
			return fmt.Errorf("containerd %s is too old for Kubernetes %d.%d: %s; hint: update containerd to %s or later",
				found, kubernetes.Major(), kubernetes.Minor(), need.why, need.least)
		}
		return nil
	}
	return nil
}

func fitsCRIO(kubernetes, found *semver.Version) error {
	behind := int64(kubernetes.Minor()) - int64(found.Minor())
	if found.Major() == kubernetes.Major() && behind >= 0 && behind <= crioSkew {
		return nil
	}
	return fmt.Errorf("CRI-O %s does not go with Kubernetes %d.%d; "+
		"hint: it may be %d minor versions older, and not newer: install CRI-O %d.%d", found, kubernetes.Major(), kubernetes.Minor(), crioSkew, kubernetes.Major(), kubernetes.Minor())
}

func version(s string) (*semver.Version, error) {
	numbers := leading.FindStringSubmatch(s)
	if numbers == nil {
		return nil, fmt.Errorf("version %.40q is not one such as 1.37.2", s)
	}
	return semver.NewVersion(numbers[1])
}
