package staticpod

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
)

// Names are the components of a control plane, in the order in which they can be ended: none outlives what it needs.
var Names = []string{manifests.APIServerName, manifests.ControllerManagerName, manifests.SchedulerName, manifests.EtcdName}

// ProgramsScript is what Running asks a host. It prints, for each program that runs of the static pods $@ and for the kubelet, a line with its name and
// what it says of its version; and for each of them a line with restarts:, what was started, and how often again.
const ProgramsScript = functions + `
for name; do
	for pid in $(pids_of "$name"); do
		echo "$name $("/proc/$pid/exe" --version 2>/dev/null | head -n 1)"
	done
	echo "restarts:$name $(restarts_of "$name")"
done
pid=$(systemctl show -p MainPID --value kubelet.service)
[ "${pid:-0}" = 0 ] || echo "kubelet $("/proc/$pid/exe" --version 2>/dev/null | head -n 1)"
echo "restarts:kubelet unit $(systemctl show -p NRestarts --value kubelet.service)"
`

// Programs are what a host really runs.
type Programs struct {
	Versions map[string]*semver.Version // of each that runs, by name; of several, the oldest
	Restarts map[string]Restarts        // of each, likewise
}

// Restarts is how often something was started again.
type Restarts struct {
	Of string // a static pod's UID, or "unit"
	N  int
}

// Running asks a host for the programs of its static pods and its kubelet, in one round trip.
func Running(ctx context.Context, r host.Reader) (Programs, error) {
	argv := append([]string{"sh", "-c", ProgramsScript, "sh"}, Names...)
	out, err := r.Query(ctx, host.Command(argv...))
	if err != nil {
		return Programs{}, fmt.Errorf("look at what runs: %w", err)
	}
	return parsePrograms(out), nil
}

// parsePrograms reads ProgramsScript's answer. Programs print "Kubernetes v1.37.2" or "etcd Version: 3.7.2"; one that was
// just ending has printed nothing, and does not run.
func parsePrograms(out []byte) Programs {
	p := Programs{Versions: map[string]*semver.Version{}, Restarts: map[string]Restarts{}}
	for line := range strings.Lines(string(out)) {
		name, said, _ := strings.Cut(strings.TrimSpace(line), " ")
		if pod, ok := strings.CutPrefix(name, "restarts:"); ok {
			of, count, _ := strings.Cut(said, " ")
			if n, err := strconv.Atoi(strings.TrimSpace(count)); err == nil && n >= 0 {
				p.Restarts[pod] = Restarts{of, n}
			}
			continue
		}
		fields := strings.Fields(said)
		if len(fields) == 0 {
			continue
		}
		v, err := semver.StrictNewVersion(strings.TrimPrefix(fields[len(fields)-1], "v"))
		if err != nil {
			continue
		}
		if have := p.Versions[name]; have == nil || v.LessThan(have) {
			p.Versions[name] = v
		}
	}
	return p
}

// Runs tells whether a program runs in a version: of Kubernetes' own programs the same, of etcd's the same minor, since the
// tag of its image counts its builds too and need not be the version of the program.
func (p Programs) Runs(name, want string) bool {
	have := p.Versions[name]
	v, err := semver.NewVersion(want)
	if have == nil || err != nil {
		return false
	}
	if name == manifests.EtcdName {
		return have.Major() == v.Major() && have.Minor() == v.Minor()
	}
	return have.Equal(v)
}
