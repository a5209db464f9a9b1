package upgrade

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
)

// staticPods are the components of a control plane, in the order in which they can be ended: none outlives what it needs.
var staticPods = []string{manifests.APIServerName, manifests.ControllerManagerName, manifests.SchedulerName, manifests.EtcdName}

// podFunctions are shell functions about static pods. pids_of prints the processes of the program $1 in the static pod of
// that name, found by the cgroup of the pod: other programs of the name are nobody's business here. A static pod's UID is
// a hash without dashes. restarts_of prints the UID of the newest pod and how often its container was started again.
const podFunctions = `
pids_of() {
	for dir in /var/log/pods/kube-system_"$1"-*_*; do
		uid=${dir##*_}
		case $uid in *-*|'*') continue ;; esac
		for file in $(grep -ls "pod$uid" /proc/[0-9]*/cgroup); do
			pid=${file#/proc/}; pid=${pid%/cgroup}
			exe=$(readlink "/proc/$pid/exe") || continue
			[ "${exe##*/}" = "$1" ] && echo "$pid"
		done
	done
	true
}
restarts_of() {
	dir=$(ls -td /var/log/pods/kube-system_"$1"-*/"$1" 2>/dev/null | grep -v '_[^_/]*-[^_/]*/[^/]*$' | head -n 1)
	[ -n "$dir" ] || return 0
	uid=${dir%/*}
	echo "${uid##*_}" "$(ls "$dir" | sed -n 's/^\([0-9]*\)\.log$/\1/p' | sort -n | tail -n 1)"
}
`

// programsScript prints, for each program that runs of the static pods $@ and for the kubelet, a line with its name and
// what it says of its version; and for each of them a line with restarts:, what was started, and how often again.
const programsScript = podFunctions + `
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

// programs are what a host really runs.
type programs struct {
	versions map[string]*semver.Version // of each that runs, by name; of several, the oldest
	restarts map[string]restarts        // of each, likewise
}

// restarts is how often something was started again.
type restarts struct {
	of string // a static pod's UID, or the unit
	n  int
}

// running asks a host for the programs of its static pods and its kubelet, in one round trip.
func running(ctx context.Context, r host.Reader) (programs, error) {
	argv := append([]string{"sh", "-c", programsScript, "sh"}, staticPods...)
	out, err := r.Query(ctx, host.Command(argv...))
	if err != nil {
		return programs{}, fmt.Errorf("look at what runs: %w", err)
	}
	return parsePrograms(out), nil
}

// parsePrograms reads programsScript's answer. Programs print "Kubernetes v1.37.2" or "etcd Version: 3.7.2"; one that was
// just ending has printed nothing, and does not run.
func parsePrograms(out []byte) programs {
	p := programs{versions: map[string]*semver.Version{}, restarts: map[string]restarts{}}
	for line := range strings.Lines(string(out)) {
		name, said, _ := strings.Cut(strings.TrimSpace(line), " ")
		if pod, ok := strings.CutPrefix(name, "restarts:"); ok {
			of, count, _ := strings.Cut(said, " ")
			if n, err := strconv.Atoi(strings.TrimSpace(count)); err == nil && n >= 0 {
				p.restarts[pod] = restarts{of, n}
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
		if have := p.versions[name]; have == nil || v.LessThan(have) {
			p.versions[name] = v
		}
	}
	return p
}

// runs tells whether a program runs in a version: of Kubernetes' own programs the same, of etcd's the same minor, since the
// tag of its image counts its builds too and need not be the version of the program.
func (p programs) runs(name, want string) bool {
	have := p.versions[name]
	v, err := semver.NewVersion(want)
	if have == nil || err != nil {
		return false
	}
	if name == manifests.EtcdName {
		return have.Major() == v.Major() && have.Minor() == v.Minor()
	}
	return have.Equal(v)
}
