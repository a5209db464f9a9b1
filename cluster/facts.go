package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/myadm/myadm/host"
)

// Facts are what a host says of itself. They do not change while myadm runs.
type Facts struct {
	Hostname    string
	MachineID   string
	Arch        string // as Go names it: amd64, arm64
	Kernel      string // uname -r
	OSID        string // os-release's ID, such as debian
	OSName      string // os-release's PRETTY_NAME
	Systemd     bool   // systemd is PID 1
	CgroupV2    bool
	CPUs        int
	MemoryKiB   int64
	Addresses   []netip.Addr          // of every interface, without loopback and link-local ones
	Interfaces  map[netip.Addr]string // the interface of each address
	RouteSource netip.Addr            // the source of the default route; invalid when there is none
	ResolvConf  string                // what /etc/resolv.conf really is
	ClockSkew   time.Duration
}

// factsScript prints name=value lines. It uses what every Linux with systemd has, and asks everything in one trip.
const factsScript = `
exec 2>/dev/null
echo "hostname=$(cat /proc/sys/kernel/hostname)"
echo "machine-id=$(cat /etc/machine-id)"
echo "arch=$(uname -m)"
echo "kernel=$(uname -r)"
. /etc/os-release
echo "os-id=$ID"
echo "os-name=$PRETTY_NAME"
[ -d /run/systemd/system ] && echo systemd=yes
[ -f /sys/fs/cgroup/cgroup.controllers ] && echo cgroup=v2
echo "cpus=$(nproc)"
while read -r name value unit; do [ "$name" = MemTotal: ] && echo "memory=$value"; done </proc/meminfo
ip -o addr show scope global | while read -r n dev family addr rest; do echo "address=${addr%%/*} $dev"; done
ip -o route get 192.0.2.1 | tr ' ' '\n' | { while read -r w; do [ "$w" = src ] && read -r w && echo "route-source=$w"; done; }
echo "resolv-conf=$(readlink -f /etc/resolv.conf)"
echo "time=$(date +%s.%N)"
`

// ReadFacts asks a host for its facts, in one round trip. now is the operator's clock, to tell how far the host's is off.
func ReadFacts(ctx context.Context, r host.Reader, now func() time.Time) (Facts, error) {
	before := now()
	out, err := r.Query(ctx, host.Command("sh", "-c", factsScript))
	if err != nil {
		return Facts{}, fmt.Errorf("read facts: %w", err)
	}
	after := now()
	f, at, err := parseFacts(out)
	if err != nil {
		return Facts{}, fmt.Errorf("read facts: %w", err)
	}
	f.ClockSkew = at.Sub(after) // the clock was read last, so that only the answer's way lies between
	if f.ClockSkew < 0 && at.After(before) {
		f.ClockSkew = 0
	}
	return f, nil
}

// goArch maps what uname says to Go's names.
var goArch = map[string]string{"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

// parseFacts reads factsScript's output and the host's time of day in it.
func parseFacts(out []byte) (Facts, time.Time, error) {
	f := Facts{Interfaces: map[netip.Addr]string{}}
	var at time.Time
	for line := range bytes.Lines(out) {
		name, value, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
		if !ok {
			continue
		}
		var err error
		switch name {
		case "hostname":
			f.Hostname = value
		case "machine-id":
			f.MachineID = value
		case "arch":
			f.Arch = value
			if goName, ok := goArch[value]; ok {
				f.Arch = goName
			}
		case "kernel":
			f.Kernel = value
		case "os-id":
			f.OSID = value
		case "os-name":
			f.OSName = value
		case "systemd":
			f.Systemd = true
		case "cgroup":
			f.CgroupV2 = true
		case "cpus":
			f.CPUs, err = strconv.Atoi(value)
		case "memory":
			f.MemoryKiB, err = strconv.ParseInt(value, 10, 64)
		case "address":
			var a netip.Addr
			text, device, _ := strings.Cut(value, " ")
			if a, err = netip.ParseAddr(text); err == nil {
				f.Addresses = append(f.Addresses, a)
				f.Interfaces[a] = device
			}
		case "route-source":
			f.RouteSource, err = netip.ParseAddr(value)
		case "resolv-conf":
			f.ResolvConf = value
		case "time":
			at, err = parseUnix(value)
		}
		if err != nil {
			return Facts{}, time.Time{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	if f.Hostname == "" || f.Arch == "" || at.IsZero() {
		return Facts{}, time.Time{}, fmt.Errorf("the answer lacks the host's name, architecture or time; hint: is it a Linux host with a POSIX shell?")
	}
	return f, at, nil
}

// parseUnix reads seconds.nanoseconds; a date without %N leaves the second part as it is, and only it is lost.
func parseUnix(s string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	nsec, err := strconv.ParseInt(fraction, 10, 64)
	if err != nil || nsec < 0 || nsec >= int64(time.Second) {
		nsec = 0
	}
	return time.Unix(sec, nsec), nil
}
