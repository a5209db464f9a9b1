package staticpod

import (
	"context"
	"fmt"
	"strings"

	"github.com/myadm/myadm/host"
)

// functions are shell functions about static pods. pids_of prints the processes of the program $1 in the static pod of
// that name, found by the cgroup of the pod: other programs of the name are nobody's business here. A static pod's UID is
// a hash without dashes. restarts_of prints the UID of the newest pod and how often its container was started again.
const functions = `
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

// ArgumentsScript is what Arguments asks a host. It waits for an exchange that an earlier run may have left under way, and
// prints for each process of the program of the static pod $1 its arguments as a line.
const ArgumentsScript = functions + `
while systemctl is-active --quiet ` + Unit + `; do sleep 0.1; done
for pid in $(pids_of "$1"); do
	tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null && echo
done
true
`

// Arguments are the command lines of the processes that run as the program of a static pod, each cut at its spaces. It is
// empty when none runs, and has two while one ends and the next one starts.
func Arguments(ctx context.Context, r host.Reader, name string) ([][]string, error) {
	out, err := r.Query(ctx, host.Command("sh", "-c", ArgumentsScript, "sh", name))
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", name, err)
	}
	var all [][]string
	for line := range strings.Lines(string(out)) {
		if words := strings.Fields(line); len(words) > 0 { // a process that has just ended has none
			all = append(all, words)
		}
	}
	return all, nil
}
