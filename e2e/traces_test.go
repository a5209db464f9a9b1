//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// traces are what a host's kernel and systemd hold beside files: mounts, links, routes, rules, processes, units, cgroups.
// They are read from outside, by this machine's tools, so that a host without them can be asked as well.
func (s *site) traces(t *testing.T, host string) listing {
	t.Helper()
	traces := listing{}
	add := func(kind, lines string, keep func(line string) string) {
		for line := range strings.Lines(lines) {
			if line = keep(strings.TrimSpace(line)); line != "" {
				traces[kind+" "+line] = ""
			}
		}
	}
	whole := func(line string) string { return line }
	// mountinfo: id, parent, device, root, mount point, options, ..., "-", type
	add("mount", s.output(t, host, "cat", "/proc/1/mountinfo"), func(line string) string {
		fields := strings.Fields(line)
		return fields[4] + " " + fields[slices.Index(fields, "-")+1]
	})
	net := s.inNetwork(t, host)
	add("link", net("ip", "-oneline", "link"), func(line string) string { return strings.Fields(line)[1] })
	add("route", net("ip", "route"), whole)
	add("rule", net("nft", "--stateless", "list", "ruleset"), firewallRule)
	for _, save := range []string{"iptables-legacy-save", "ip6tables-legacy-save"} {
		add("rule", net(save), func(line string) string {
			if strings.HasPrefix(line, "-A") || strings.HasPrefix(line, ":") && strings.Contains(line, " - ") { // a rule, or a chain of a user's
				return line
			}
			return ""
		})
	}
	add("process", s.output(t, host, "ps", "-eo", "comm="), func(line string) string {
		if program.MatchString(line) {
			return line
		}
		return ""
	})
	add("unit", s.output(t, host, "systemctl", "list-unit-files", "--no-legend", "--plain"), whole)
	add("failed unit", s.output(t, host, "systemctl", "list-units", "--failed", "--no-legend", "--plain"), whole)
	add("cgroup", s.shell(t, host, "find /sys/fs/cgroup -maxdepth 2 -name 'kube*'; find /sys/fs/cgroup -name 'cri-*'"), whole)
	add("in /run", s.shell(t, host, "ls -A /run; ls -A /run/netns 2>/dev/null || true"), func(line string) string {
		switch line {
		case "xtables.lock", // of iptables, whoever calls it; it holds nothing
			"motd.dynamic": // of a login
			return ""
		}
		return line
	})
	return traces
}

// program are those of Kubernetes and of the container runtime.
var program = regexp.MustCompile(`^(kube|containerd|etcd|flannel|coredns|pause|runc|e2e)`)

// builtin are the chains that iptables makes when it is asked anything.
var builtin = regexp.MustCompile(`^chain (INPUT|OUTPUT|FORWARD|PREROUTING|POSTROUTING) \{$`)

// firewallRule picks, out of nft's lines, rules and the chains that somebody made.
func firewallRule(line string) string {
	switch {
	case line == "}", strings.HasPrefix(line, "table "), strings.HasPrefix(line, "type "), strings.HasPrefix(line, "#"), builtin.MatchString(line):
		return ""
	}
	return line
}

// inNetwork gives a way to run this machine's tools in the network namespace of a host.
func (s *site) inNetwork(t *testing.T, host string) func(argv ...string) string {
	t.Helper()
	must(t, installTools())
	namespace := s.networkOf(t, host)
	return func(argv ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + namespace}, argv...)...).Output()
		if err != nil {
			t.Fatalf("%s in the network of %s: %v", strings.Join(argv, " "), host, err)
		}
		return string(out)
	}
}

// networkOf is a file of this machine that is the network namespace of a host, as long as the host is on.
func (s *site) networkOf(t *testing.T, host string) string {
	t.Helper()
	namespace := strings.TrimSpace(s.output(t, host, "readlink", "/proc/1/ns/net"))
	candidates, err := filepath.Glob("/proc/[0-9]*/ns/net")
	must(t, err)
	// The oldest process there is the host's init, which stays; others may end at any moment.
	slices.SortFunc(candidates, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	i := slices.IndexFunc(candidates, func(path string) bool {
		link, err := os.Readlink(path)
		return err == nil && link == namespace
	})
	if i < 0 {
		t.Fatalf("no process of %s is seen from here; hint: the tests have to run as root, where Docker runs", host)
	}
	return candidates[i]
}

// tools are this machine's programs that look into a host's network, by Debian package.
var tools = [][2]string{{"nft", "nftables"}, {"ip", "iproute2"}, {"nsenter", "util-linux"}, {"iptables-legacy-save", "iptables"}, {"ip6tables-legacy-save", "iptables"}}

// installTools installs what is missing, once.
var installTools = sync.OnceValue(func() error {
	var missing []string
	for _, tool := range tools {
		if _, err := exec.LookPath(tool[0]); err != nil {
			missing = append(missing, tool[1])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for _, args := range [][]string{{"update"}, append([]string{"install", "--yes", "--no-install-recommends"}, missing...)} {
		apt := exec.Command("apt-get", args...)
		apt.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := apt.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w: %s; hint: install %s", args[0], err, out, strings.Join(missing, " "))
		}
	}
	return nil
})
