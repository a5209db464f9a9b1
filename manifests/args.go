package manifests

import (
	"cmp"
	"slices"

	"github.com/myadm/myadm/config"
)

// command is the argv of a component: its name, the flags that myadm sets in order of their names, then the user's as
// they were written. A flag of the user's takes the place of every flag of ours of that name, and may come several
// times. This is kubeadm's order, so that its upgrade finds nothing to change in a manifest of ours.
func command(name string, own, extra []config.Arg) []string {
	own = slices.DeleteFunc(slices.Clone(own), func(a config.Arg) bool {
		_, replaced := lastArg(extra, a.Name)
		return replaced
	})
	slices.SortStableFunc(own, func(a, b config.Arg) int { return cmp.Compare(a.Name, b.Name) })
	argv := []string{name}
	for _, a := range slices.Concat(own, extra) {
		argv = append(argv, flag(a))
	}
	return argv
}

func flag(a config.Arg) string { return "--" + a.Name + "=" + a.Value }

// lastArg is the value that wins of the flags called name.
func lastArg(args []config.Arg, name string) (value string, found bool) {
	for _, a := range args {
		if a.Name == name {
			value, found = a.Value, true
		}
	}
	return value, found
}
