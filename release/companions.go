package release

import "github.com/myadm/myadm/config"

// companions are the versions of the host's programs that go with a minor version of Kubernetes. They are tags of their
// makers' releases.
type companions struct {
	minor      string // v1.37
	containerd string
	runc       string
	cni        string // the reference plugins
	flannelCNI string // flannel's plugin, which goes with the reference plugins and not with flannel
}

// companionsTable has a row for each minor version that package config knows. A minor keeps a minor of containerd for as
// long as both are maintained, so that an upgrade of Kubernetes' patch release does not change the runtime's line; the
// patch release is the newest of that line.
var companionsTable = []companions{
	{minor: "v1.36", containerd: "v2.4.2", runc: "v1.5.2", cni: "v1.9.1", flannelCNI: "v1.9.1-flannel3"},
	{minor: "v1.37", containerd: "v2.4.2", runc: "v1.5.2", cni: "v1.9.1", flannelCNI: "v1.9.1-flannel3"},
}

// companionsOf finds the row of a version. There is one for every minor that config knows: a test sees to it.
func companionsOf(version string) (companions, error) {
	known, err := config.VersionsOf(version)
	if err != nil {
		return companions{}, err
	}
	var row companions
	for _, c := range companionsTable {
		if c.minor == known.Minor {
			row = c
		}
	}
	return row, nil
}
