// Package upgrade brings a cluster from one version of Kubernetes to another, and decides which versions may meet in it.
//
// The order follows from what may be older than what: etcd, then the API server, its controller manager and its scheduler,
// and that node's kubelet, one control plane after the other; CoreDNS and kube-proxy once no older API server is left;
// the workers' kubelets last.
// Source: https://kubernetes.io/releases/version-skew-policy/#supported-component-upgrade-order
package upgrade

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/myadm/myadm/config"
)

// CheckTarget tells whether a control plane may go from a version to another. from is that of its oldest API server; both
// are as Kubernetes writes them, v1.37.2. An upgrade goes through each minor version, and none goes back to an older
// minor, since an older API server need not know what a newer one stored. Going back to an older patch release or
// pre-release of the same minor takes force. The same version is allowed: an upgrade that was interrupted carries on.
// Source: https://kubernetes.io/releases/version-skew-policy/#kube-apiserver-1, which forbids to skip a minor
func CheckTarget(from, to string, force bool) error {
	old, err := config.ParseVersion(from)
	if err != nil {
		return fmt.Errorf("API server version: %w", err)
	}
	target, err := config.ParseVersion(to)
	if err != nil {
		return err
	}
	switch {
	case target.Major() != old.Major():
		return fmt.Errorf("%s and %s are different major versions of Kubernetes; hint: %s", from, to, whereTo(from))
	case target.Minor() > old.Minor()+1:
		return fmt.Errorf("from %s to %s an upgrade would skip v%d.%d; hint: %s", from, to, old.Major(), old.Minor()+1, whereTo(from))
	case target.Minor() < old.Minor():
		return fmt.Errorf("%s is an older minor version than %s, and Kubernetes cannot go back to one; hint: %s, or restore a backup of etcd into a cluster of %s", to, from, whereTo(from), to)
	}
	if _, err := config.VersionsOf(to); err != nil {
		return err
	}
	if target.LessThan(old) && !force {
		return fmt.Errorf("%s is older than %s; hint: add --force to go back to it", to, from)
	}
	return nil
}

// whereTo is the hint that names the versions which a control plane can go to.
func whereTo(from string) string {
	if versions := Reachable(from); len(versions) > 0 {
		return "upgrade to " + strings.Join(versions, " or ") + " first"
	}
	if _, err := config.VersionsOf(from); err == nil {
		return "stay at " + from + ", nothing that this myadm knows follows it"
	}
	return "use a myadm that knows " + from
}

// Reachable lists the versions that a control plane can go to and that myadm knows, oldest first: the newest patch release
// of the same minor, if it is newer, and the newest of the next minor. It is empty for what is no version.
func Reachable(from string) []string {
	old, err := config.ParseVersion(from)
	if err != nil {
		return nil
	}
	var versions []string
	for _, minor := range []uint64{old.Minor(), old.Minor() + 1} {
		row, err := config.VersionsOf(fmt.Sprintf("v%d.%d.0", old.Major(), minor))
		if err != nil {
			continue
		}
		if newest, err := config.ParseVersion(row.Newest); err == nil && newest.GreaterThan(old) {
			versions = append(versions, row.Newest)
		}
	}
	return versions
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
		return nil, 0, fmt.Errorf("the tag %q of an etcd image is not a version; hint: use an image with a tag such as %s", tag, newestEtcd())
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

func newestEtcd() string {
	row, _ := config.VersionsOf(config.Newest) // the table has a row for it
	return row.Etcd
}
