package upgrade

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/Masterminds/semver/v3"
)

// maxKubeletSkew is how many minors a kubelet may be older than the API server.
// Source: https://kubernetes.io/releases/version-skew-policy/#kubelet
const maxKubeletSkew = 3

// CheckKubelet tells whether a kubelet may join an API server: it is not newer, and at most three minors older. Both
// versions are as Kubernetes writes them, v1.37.2.
func CheckKubelet(apiServer, kubelet string) error {
	api, err := semver.NewVersion(apiServer)
	if err != nil {
		return fmt.Errorf("API server version %q: %w", apiServer, err)
	}
	node, err := semver.NewVersion(kubelet)
	if err != nil {
		return fmt.Errorf("kubelet version %q: %w", kubelet, err)
	}
	switch {
	case node.Major() > api.Major(), node.Major() == api.Major() && node.Minor() > api.Minor():
		return fmt.Errorf("kubelet %s is newer than the API server %s; hint: upgrade the control plane first, or use a bundle of %s", kubelet, apiServer, apiServer)
	case node.Major() < api.Major(), node.Minor()+maxKubeletSkew < api.Minor():
		return fmt.Errorf("kubelet %s is more than %d minors older than the API server %s; hint: use a bundle of %s", kubelet, maxKubeletSkew, apiServer, apiServer)
	}
	return nil
}

// apiServer is the component that all others are measured by.
const apiServer = "kube-apiserver"

// maxSkew is how many minors a component may be older than an API server that it talks to. API servers are measured by
// each other. None may be newer.
var maxSkew = map[string]uint64{
	apiServer:                 1, // https://kubernetes.io/releases/version-skew-policy/#kube-apiserver
	"kube-controller-manager": 1, // https://kubernetes.io/releases/version-skew-policy/#kube-controller-manager-kube-scheduler-and-cloud-controller-manager
	"kube-scheduler":          1, // the same
	"kubelet":                 maxKubeletSkew,
	"kube-proxy":              3, // https://kubernetes.io/releases/version-skew-policy/#kube-proxy
}

// Running is a program of a cluster: kube-apiserver v1.37.2 on cp-1.
type Running struct {
	Component, Node, Version string
}

// CheckSkew tells what in a cluster may not meet, or may not meet the API servers of the target version. The errors are in
// the order of what runs; those of components that the policy does not speak of (etcd) are none.
//
// A controller manager, a scheduler and a kubelet on a control plane talk to the API server beside them, so they may be
// newer than those of control planes whose turn has not come: an upgrade that was interrupted carries on. All others
// reach any API server, so the oldest decides. On how much older they may be the target decides.
func CheckSkew(target string, running []Running) []error {
	to, err := semver.NewVersion(target)
	if err != nil {
		return []error{fmt.Errorf("target version %q: %w", target, err)}
	}
	var errs []error
	var oldest *semver.Version
	versions := make([]*semver.Version, len(running))
	beside := map[string]*semver.Version{} // the API servers by their nodes
	for i, r := range running {
		v, err := semver.NewVersion(r.Version)
		if err != nil {
			errs = append(errs, fmt.Errorf("version %q of %s on %s: %w", r.Version, r.Component, r.Node, err))
			continue
		}
		versions[i] = v
		if r.Component == apiServer {
			beside[r.Node] = v
			if oldest == nil || v.LessThan(oldest) {
				oldest = v
			}
		}
	}
	if oldest == nil {
		return append(errs, errors.New("the version of no API server is known; hint: start one, and look at its log with crictl"))
	}
	for i, r := range running {
		behind, ruled := maxSkew[r.Component]
		if versions[i] == nil || !ruled {
			continue
		}
		api := oldest
		if near := beside[r.Node]; near != nil && r.Component != "kube-proxy" {
			api = near
		}
		if err := checkSkew(r, versions[i], behind, api, oldest, to); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// checkSkew measures a component by the API server it talks to, by the oldest API server, and by the target.
func checkSkew(r Running, v *semver.Version, behind uint64, api, oldest, target *semver.Version) error {
	switch {
	case r.Component == apiServer && minorsOver(v, oldest) > int64(behind):
		return fmt.Errorf("%s %s on %s is more than a minor newer than the API server v%s; hint: upgrade the control planes of v%s first", r.Component, r.Version, r.Node, oldest, oldest)
	case minorsOver(v, api) > 0:
		return fmt.Errorf("%s %s on %s is newer than the API server v%s; hint: put a %s of v%d.%d in its place first", r.Component, r.Version, r.Node, api, r.Component, api.Major(), api.Minor())
	case minorsOver(target, v) > int64(behind):
		return fmt.Errorf("%s %s on %s is more than %s older than v%s; hint: upgrade it to at least v%d.%d first", r.Component, r.Version, r.Node, minors(behind), target, target.Major(), target.Minor()-min(behind, target.Minor()))
	}
	return nil
}

// minorsOver is by how many minors a version is newer than another: negative if it is older. A major counts for more
// minors than there will be.
func minorsOver(a, b *semver.Version) int64 {
	const major = 1000
	return (int64(a.Major())-int64(b.Major()))*major + int64(a.Minor()) - int64(b.Minor())
}

func minors(n uint64) string {
	if n == 1 {
		return "a minor"
	}
	return fmt.Sprintf("%d minors", n)
}

// etcdTag is the tag of an etcd image: 3.7.0-0, where what follows the dash counts the builds of the image.
var etcdTag = regexp.MustCompile(`^v?([0-9]+\.[0-9]+\.[0-9]+)(?:-([0-9]+))?$`)

// EtcdMove tells whether etcd is to go from an image to another, given by their tags. An etcd as new or newer stays: it
// would not read what a newer one wrote. An etcd goes through each minor version.
// Source: https://etcd.io/docs/v3.6/upgrades/upgrading-etcd/#upgrade-policy
func EtcdMove(have, want string) (bool, error) {
	old, oldBuild, err := parseEtcdTag(have)
	if err != nil {
		return false, err
	}
	target, build, err := parseEtcdTag(want)
	if err != nil {
		return false, err
	}
	if order := target.Compare(old); order <= 0 {
		return order == 0 && oldBuild >= 0 && build > oldBuild, nil
	}
	if target.Major() != old.Major() || target.Minor() > old.Minor()+1 {
		return false, fmt.Errorf("from etcd %s to %s an upgrade would skip a minor version; hint: upgrade etcd to %d.%d first", have, want, old.Major(), old.Minor()+1)
	}
	return true, nil
}

// parseEtcdTag reads the tag of an etcd image. The build is -1 if the tag has none.
func parseEtcdTag(tag string) (*semver.Version, int, error) {
	m := etcdTag.FindStringSubmatch(tag)
	if m == nil {
		return nil, 0, fmt.Errorf("the tag %q of an etcd image is not a version; hint: use an image with a tag such as 3.7.0-0", tag)
	}
	v, err := semver.StrictNewVersion(m[1])
	if err != nil {
		return nil, 0, fmt.Errorf("the tag %q of an etcd image: %w", tag, err)
	}
	if m[2] == "" {
		return v, -1, nil
	}
	build, err := strconv.Atoi(m[2])
	if err != nil {
		return nil, 0, fmt.Errorf("the tag %q of an etcd image: %w", tag, err)
	}
	return v, build, nil
}
