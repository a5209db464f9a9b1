package phases

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
)

const (
	// handoverPatience is how many tenths of a second keepalived gets to give the virtual IP to another host.
	handoverPatience = "50"

	// restartPatience is for the kubelet to start keepalived anew. It waits longer each time that a container ends.
	restartPatience = 90 * time.Second
)

// restartKeepalived has a keepalived that runs take its new configuration, and waits until it does: only then may that of
// another host be ended, or nobody would have the virtual IP. It hands over when it is asked to end, and the kubelet
// starts it in the same pod. A new pod would take the kubelet the better part of a minute.
func restartKeepalived(ctx context.Context, h host.Host, n *cluster.Node) error {
	if state, err := readKeepalived(ctx, h); err != nil || !state.old {
		return err
	}
	if err := endKeepalived(ctx, h); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, restartPatience)
	defer cancel()
	err := poll(waiting, func(ctx context.Context) error {
		state, err := readKeepalived(ctx, h)
		if err == nil && (!state.running || state.old) {
			err = errors.New("the kubelet has not started it anew")
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s does not run by %s after %s: %w%s", manifests.KeepalivedName, manifests.KeepalivedConfigPath, restartPatience, err,
			LastWords(ctx, n, manifests.KeepalivedName))
	}
	return err
}

// endKeepalived ends a host's keepalived, by force when it does not end by itself.
func endKeepalived(ctx context.Context, h host.Host) error {
	if _, err := h.Run(ctx, host.Command("sh", "-c", endKeepalivedScript, "sh", manifests.KeepalivedConfigPath, handoverPatience)); err != nil {
		return fmt.Errorf("end %s: %w", manifests.KeepalivedName, err)
	}
	return nil
}

// keepalivedState is what there is of keepalived on a host.
type keepalivedState struct {
	running bool
	old     bool // it runs, and was started before its configuration was written
}

func readKeepalived(ctx context.Context, r host.Reader) (keepalivedState, error) {
	out, err := r.Query(ctx, host.Command("sh", "-c", keepalivedScript, "sh", manifests.KeepalivedConfigPath))
	if err != nil {
		return keepalivedState{}, fmt.Errorf("look for %s: %w", manifests.KeepalivedName, err)
	}
	return parseKeepalived(out)
}

// startSlack is the error, in seconds, of a time of start that is computed from clocks which are read one after the other.
const startSlack = 0.2

// parseKeepalived reads what keepalivedScript prints.
func parseKeepalived(out []byte) (keepalivedState, error) {
	var state keepalivedState
	values := map[string]float64{}
	var started []float64 // ticks of the clock since boot
	for name, text := range answer(out) {
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || value < 0 {
			return keepalivedState{}, fmt.Errorf("look for %s: %s is %q, and no time", manifests.KeepalivedName, name, text)
		}
		if values[name] = value; name == "started" {
			started = append(started, value)
		}
	}
	if len(started) == 0 {
		return state, nil
	}
	if values["hertz"] == 0 || values["now"] == 0 {
		return keepalivedState{}, fmt.Errorf("look for %s: the host has no clock", manifests.KeepalivedName)
	}
	state.running = true
	boot := values["now"] - values["uptime"]
	for _, ticks := range started {
		state.old = state.old || boot+ticks/values["hertz"]+startSlack < values["written"]
	}
	return state, nil
}

// keepalivedRuns are functions of the shell: whether process $1 is a keepalived by the configuration $conf, and all such.
const keepalivedRuns = `
runs() { [ -r "/proc/$1/cmdline" ] && tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -q "^[^ ]*keepalived .*$conf"; }
all() {
	for f in $(grep -lsF -- "$conf" /proc/[0-9]*/cmdline); do
		pid=${f#/proc/}
		pid=${pid%/cmdline}
		runs "$pid" && echo "$pid"
	done
}
conf=$1
`

// keepalivedScript tells when each process of the keepalived that runs by the configuration $1 was started, and when that
// was written.
const keepalivedScript = keepalivedRuns + `
for pid in $(all); do sed -n 's/.*) //p' "/proc/$pid/stat" 2>/dev/null | cut -d ' ' -f 20 | sed 's/^/started=/'; done
stat -c written=%.9Y "$conf" 2>/dev/null
echo "hertz=$(getconf CLK_TCK)"
sed 's/ .*//; s/^/uptime=/' /proc/uptime
date +now=%s.%N
`

// endKeepalivedScript ends the keepalived that runs by the configuration $1, and kills it after $2 tenths of a second. Its
// children, which have the same command line, end with it.
const endKeepalivedScript = keepalivedRuns + `
left=$(all)
for pid in $left; do
	parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null) || continue
	runs "$parent" || kill -TERM "$pid"
done
tenths=$2
for pid in $left; do
	while runs "$pid"; do
		[ "$tenths" -gt 0 ] || kill -KILL "$pid"
		tenths=$((tenths - 1))
		sleep 0.1
	done
done
true
`
