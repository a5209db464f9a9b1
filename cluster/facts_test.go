package cluster

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
)

// answer is what factsScript prints on a Debian host, without the lines that a test changes.
const answer = `hostname=cp-1
machine-id=0f1e2d3c4b5a69788796a5b4c3d2e1f0
arch=x86_64
kernel=6.1.0-30-amd64
os-id=debian
os-name=Debian GNU/Linux 12 (bookworm)
systemd=yes
cgroup=v2
cpus=4
memory=8145432
address=10.0.0.1 eth0
address=fd00::1 eth1
route-source=10.0.0.1
resolv-conf=/run/systemd/resolve/stub-resolv.conf
time=1800000000.250000000
`

var answerFacts = Facts{
	Hostname: "cp-1", MachineID: "0f1e2d3c4b5a69788796a5b4c3d2e1f0", Arch: "amd64", Kernel: "6.1.0-30-amd64",
	OSID: "debian", OSName: "Debian GNU/Linux 12 (bookworm)", Systemd: true, CgroupV2: true, CPUs: 4, MemoryKiB: 8145432,
	Addresses:   []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
	Interfaces:  map[netip.Addr]string{netip.MustParseAddr("10.0.0.1"): "eth0", netip.MustParseAddr("fd00::1"): "eth1"},
	RouteSource: netip.MustParseAddr("10.0.0.1"), ResolvConf: "/run/systemd/resolve/stub-resolv.conf",
}

var answerTime = time.Unix(1800000000, 250000000)

var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestParseFacts(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want func(f *Facts)
		at   time.Time
		err  string
	}{
		{name: "debian", in: answer},
		{name: "carriage returns", in: strings.ReplaceAll(answer, "\n", "\r\n")},
		{name: "a login message before", in: "Welcome to cp-1!\n\n" + answer},
		{name: "lines of a later version", in: answer + "gpu=2\n"},
		{name: "arm", in: strings.Replace(answer, "x86_64", "aarch64", 1), want: func(f *Facts) { f.Arch = "arm64" }},
		{name: "an architecture without Go's name", in: strings.Replace(answer, "x86_64", "riscv64", 1), want: func(f *Facts) { f.Arch = "riscv64" }},
		{name: "value with an equals sign", in: strings.Replace(answer, "Debian GNU", "A=B GNU", 1), want: func(f *Facts) { f.OSName = "A=B GNU/Linux 12 (bookworm)" }},
		{name: "neither systemd nor cgroup v2", in: strings.NewReplacer("systemd=yes\n", "", "cgroup=v2\n", "").Replace(answer), want: func(f *Facts) {
			f.Systemd, f.CgroupV2 = false, false
		}},
		{name: "no ip command", in: strings.NewReplacer("address=10.0.0.1 eth0\n", "", "address=fd00::1 eth1\n", "", "route-source=10.0.0.1\n", "").Replace(answer), want: func(f *Facts) {
			f.Addresses, f.Interfaces, f.RouteSource = nil, map[netip.Addr]string{}, netip.Addr{}
		}},
		{name: "a date without nanoseconds", in: strings.Replace(answer, ".250000000", ".%N", 1), at: time.Unix(1800000000, 0)},
		{name: "a date of seconds", in: strings.Replace(answer, ".250000000", "", 1), at: time.Unix(1800000000, 0)},

		{name: "nothing", in: "", err: "hint: is it a Linux host"},
		{name: "no hostname", in: strings.Replace(answer, "hostname=cp-1", "hostname=", 1), err: "lacks the host's name"},
		{name: "no time", in: strings.Replace(answer, "time=1800000000.250000000", "", 1), err: "lacks"},
		{name: "bad time", in: strings.Replace(answer, "time=18", "time=x", 1), err: "time: "},
		{name: "bad number of processors", in: strings.Replace(answer, "cpus=4", "cpus=four", 1), err: "cpus: "},
		{name: "bad memory", in: strings.Replace(answer, "memory=", "memory=~", 1), err: "memory: "},
		{name: "bad address", in: strings.Replace(answer, "address=10.0.0.1 ", "address=10.0.0 ", 1), err: "address: "},
		{name: "bad source", in: strings.Replace(answer, "route-source=10.0.0.1", "route-source=here", 1), err: "route-source: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, at, err := parseFacts([]byte(tt.in))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := answerFacts
			if tt.want != nil {
				tt.want(&want)
			}
			if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			wantAt := tt.at
			if wantAt.IsZero() {
				wantAt = answerTime
			}
			if !at.Equal(wantAt) {
				t.Errorf("time %s, want %s", at, wantAt)
			}
		})
	}
}

func FuzzParseFacts(f *testing.F) {
	f.Add([]byte(answer))
	f.Add([]byte("hostname=x\narch=x86_64\ntime=-1.999999999\naddress=::ffff:1.2.3.4%eth0"))
	f.Add([]byte("time=9223372036854775807.1\n=\n=="))
	f.Fuzz(func(t *testing.T, out []byte) {
		facts, at, err := parseFacts(out)
		if err != nil {
			if facts.Hostname != "" || !at.IsZero() {
				t.Errorf("facts %+v come with the error %v", facts, err)
			}
			return
		}
		if facts.Hostname == "" || facts.Arch == "" || at.IsZero() {
			t.Errorf("%+v at %s were accepted", facts, at)
		}
		for _, a := range facts.Addresses {
			if !a.IsValid() {
				t.Error("an address that is none was accepted")
			}
		}
	})
}

// The clock is off by what is left when the way of the answer is taken into account.
func TestReadFactsTellsHowFarTheClockIsOff(t *testing.T) {
	second := time.Second
	tests := []struct {
		name  string
		asked time.Duration // the operator's clock against the host's when the question leaves
		took  time.Duration
		want  time.Duration
	}{
		{"in time", -second / 2, second, 0},
		{"slow answer", -9 * second, 10 * second, 0},
		{"host ahead", -60 * second, second, 59 * second},
		{"host behind", 60 * second, second, -61 * second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := hosttest.New(t, "h1")
			f.On("sh", "-c", factsScript).Return(answer)
			clock := answerTime.Add(tt.asked)
			now := func() time.Time {
				at := clock
				clock = clock.Add(tt.took)
				return at
			}
			facts, err := ReadFacts(t.Context(), f, now)
			if err != nil {
				t.Fatal(err)
			}
			if facts.ClockSkew != tt.want {
				t.Errorf("off by %s, want %s", facts.ClockSkew, tt.want)
			}
			if n := len(f.Commands()); n != 1 {
				t.Errorf("%d round trips", n)
			}
		})
	}
}

func TestReadFactsOfAHostThatFails(t *testing.T) {
	f := hosttest.New(t, "h1")
	f.On("sh", "-c", factsScript).Fail(127, "sh: not found")
	_, err := ReadFacts(t.Context(), f, time.Now)
	if err == nil || !strings.HasPrefix(err.Error(), "read facts: ") || !strings.Contains(err.Error(), "sh: not found") {
		t.Errorf("got %v", err)
	}
}

// The script is code as well: a real shell runs it on the machine that runs the test.
func TestFactsScriptOnThisMachine(t *testing.T) {
	want, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	var h shell
	facts, err := ReadFacts(t.Context(), h, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if facts.Hostname != want || facts.Arch != runtime.GOARCH || facts.CPUs < 1 || facts.MemoryKiB < 1<<10 {
		t.Errorf("%+v, on %s of %s", facts, want, runtime.GOARCH)
	}
	if facts.ClockSkew.Abs() > time.Second {
		t.Errorf("this machine's clock is off from itself by %s", facts.ClockSkew)
	}
	for _, a := range append(facts.Addresses, facts.RouteSource) {
		if a.IsLoopback() || a.IsLinkLocalUnicast() {
			t.Errorf("%s is no address that other nodes could use", a)
		}
	}
	for _, a := range facts.Addresses {
		if _, err := net.InterfaceByName(facts.Interfaces[a]); err != nil {
			t.Errorf("%s is said to be of interface %q: %v", a, facts.Interfaces[a], err)
		}
	}
}

// shell runs queries on this machine.
type shell struct{ host.Reader }

func (shell) Query(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	return exec.CommandContext(ctx, cmd.Argv[0], cmd.Argv[1:]...).Output()
}
