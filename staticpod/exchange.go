// Package staticpod knows what runs of a host's static pods, and replaces it in one go.
package staticpod

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/myadm/myadm/host"
)

// Unit is the transient unit in which a host replaces what it runs. It is systemd's and not the connection's, so
// that a host is never left between two versions because myadm, or the way to it, has gone.
const Unit = "myadm-exchange.service"

// Move puts a file in another's place and keeps that one.
type Move struct {
	From string // what takes the place
	To   string // the place
	Keep string // where the file that has the place goes; empty: it is not kept
}

// Exchange is what a host replaces with its kubelet stopped, in one go.
type Exchange struct {
	Folder  string // on the host, for the script; it is made, and it stays
	Moves   []Move
	End     []string // static pods whose programs end, in this order
	Runtime bool     // containerd is started anew

	// Etcd's data folder, and where a copy of it is made before etcd starts in another version, or from where it comes back.
	// Empty: it is left alone.
	Data, CopyTo, CopyFrom string
}

// exchangeScript stops the kubelet, ends the programs of the static pods $1 (an API server would wait a minute for watches
// that never end by themselves; after five seconds only those are left, and their clients go elsewhere), copies etcd's
// data $2 to $3 or has it back from $4, makes the moves that follow $5, and starts the kubelet, come what may. A kubelet
// that starts finds nothing of the old pods, where one that runs would take half a minute to let go of each. $5 says
// whether containerd is to be started anew.
//
// What is copied is first copied under another name: a copy that is there is whole.
const exchangeScript = functions + `
set -eu
end=$1 data=$2 copy=$3 back=$4 runtime=$5; shift 5
trap 'systemctl start kubelet.service' EXIT
systemctl stop kubelet.service
end_all() {
	tenths=$1; shift
	pids=
	for name; do pids="$pids $(pids_of "$name")"; done
	for pid in $pids; do kill "$pid" 2>/dev/null || true; done
	waited=0
	for pid in $pids; do
		while [ -d "/proc/$pid" ]; do
			[ $waited -lt "$tenths" ] || kill -KILL "$pid" 2>/dev/null || true
			waited=$((waited + 1))
			sleep 0.1
		done
	done
}
clients= etcd=
for name in $end; do
	if [ "$name" = etcd ]; then etcd=etcd; else clients="$clients $name"; fi
done
end_all 50 $clients
end_all 200 $etcd
if [ -n "$copy" ] && [ ! -e "$copy" ]; then
	rm -rf "$copy.part"
	cp -a --reflink=auto "$data" "$copy.part"
	sync "$copy.part"
	mv -T "$copy.part" "$copy"
fi
if [ -n "$back" ] && [ -e "$back" ]; then
	if [ -e "$data" ]; then
		rm -rf "$data.failed"
		mv -T "$data" "$data.failed"
	fi
	mv -T "$back" "$data"
fi
reload=
while [ $# -gt 0 ]; do
	case "$2" in *.service|*.conf) reload=yes ;; esac
	mkdir -p "${2%/*}"
	if [ -n "$3" ] && [ -e "$2" ]; then
		mkdir -p "${3%/*}"
		ln -fT "$2" "$3" 2>/dev/null || cp -pfT "$2" "$3"
	fi
	if [ "$1" -ef "$2" ]; then # it was kept, and nothing has taken its place
		rm -f "$1"
	else
		mv -fT "$1" "$2"
	fi
	shift 3
done
if [ -n "$reload" ]; then
	systemctl daemon-reload
fi
if [ "$runtime" = yes ]; then
	systemctl restart containerd.service
fi
`

// Run makes the exchange and returns when the host has made it. When ctx ends before, the host makes it all the same. What
// takes a place has to be on the host already. An exchange that the host could not make wraps a *host.ExitError.
func (e Exchange) Run(ctx context.Context, h host.Host) error {
	script := e.Folder + "/exchange.sh"
	if err := h.WriteFiles(ctx, host.File{Path: script, Mode: 0o700, Data: []byte(exchangeScript)}); err != nil {
		return err
	}
	runtime := "no"
	if e.Runtime {
		runtime = "yes"
	}
	argv := []string{"systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--unit=" + Unit,
		"sh", script, strings.Join(e.End, " "), e.Data, e.CopyTo, e.CopyFrom, runtime}
	for _, m := range e.Moves {
		argv = append(argv, m.From, m.To, m.Keep)
	}
	if _, err := h.Run(ctx, host.Command(argv...)); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("replace what runs: %w; hint: journalctl -u %s on the host", exitOf(err), Unit)
	}
	return nil
}

// exitOf leaves the script's long command line out of an error.
func exitOf(err error) error {
	var exit *host.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	return &host.ExitError{Argv: []string{"systemd-run", "--unit=" + Unit}, Code: exit.Code, Stderr: exit.Stderr}
}
