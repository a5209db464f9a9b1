package upgrade

import (
	"fmt"
	"strings"

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
