package upgrade

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/myadm/myadm/config"
)

// RemovedUse is something that a component is told and that keeps the target's version of it from starting.
type RemovedUse struct {
	Component string // kube-apiserver
	Use       string // as it is written: --storage-driver-db, --controllers=node-route-controller, or a gate, GangScheduling=true
	Detail    string // what is wrong with it, and a hint
}

func (u RemovedUse) String() string {
	return fmt.Sprintf("%s: %s: %s", u.Component, u.Use, u.Detail)
}

// Removed lists what a component (kube-apiserver, kubelet, etcd) is told and would not start with at the target version,
// in the order of args, then feature gates by name. gates are those of a configuration file, the kubelet's or kube-proxy's;
// args win over them. Nothing is known, and so nothing listed, of a minor version without a row in removals.
func Removed(target, component string, args []config.Arg, gates map[string]bool) []RemovedUse {
	v, err := config.ParseVersion(target)
	if err != nil {
		return nil
	}
	minor := minorOf(v)
	row := removals[minor]
	var uses []RemovedUse
	add := func(use, format string, a ...any) {
		uses = append(uses, RemovedUse{component, use, fmt.Sprintf(format, a...)})
	}
	set := maps.Clone(gates)
	if set == nil {
		set = map[string]bool{}
	}
	for _, arg := range args {
		name := strings.ReplaceAll(arg.Name, "_", "-") // as the components read flags
		if hint, gone := row.flags[component][name]; gone {
			add("--"+name, "%s does not know this flag; hint: %s", minor, cmp.Or(hint, "remove it"))
		}
		for value := range strings.SplitSeq(arg.Value, ",") {
			value = strings.TrimSpace(value)
			if slices.Contains(row.values[component][name], strings.TrimPrefix(value, "-")) {
				add("--"+name+"="+value, "%s does not know this value; hint: remove it", minor)
			}
		}
		if name == "feature-gates" {
			maps.Copy(set, parseGates(arg.Value))
		}
	}
	if component == "etcd" { // its gates are others
		return uses
	}
	for _, gate := range slices.Sorted(maps.Keys(set)) {
		on := set[gate]
		use := gate + "=" + strconv.FormatBool(on)
		if slices.Contains(row.gates, gate) {
			add(use, "%s does not know this feature gate; hint: remove it", minor)
		}
		if locked, ok := row.locked[gate]; ok && on != locked {
			add(use, "%s keeps this feature gate %t; hint: remove it", minor, locked)
		}
		if on {
			continue
		}
		for _, follower := range row.followers[gate] {
			if given, ok := set[follower]; !ok || given {
				add(use, "%s needs it for %s; hint: remove it, or add %s=false", minor, follower, follower)
			}
		}
	}
	return uses
}

// parseGates reads the value of --feature-gates: A=true,B=false, where a name may follow its component, kube:A=true. What
// is not written so, the component refuses at any version.
func parseGates(value string) map[string]bool {
	gates := map[string]bool{}
	for pair := range strings.SplitSeq(value, ",") {
		name, value, _ := strings.Cut(pair, "=")
		on, err := strconv.ParseBool(strings.TrimSpace(value))
		if err == nil {
			gates[strings.TrimPrefix(strings.TrimSpace(name), "kube:")] = on
		}
	}
	return gates
}

// minorOf is a version's minor version: v1.37.
func minorOf(v *semver.Version) string {
	return fmt.Sprintf("v%d.%d", v.Major(), v.Minor())
}
