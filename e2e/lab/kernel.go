package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// modules are the kernel modules a Kubernetes host needs. The hosts share the machine's kernel and cannot load any, so
// the machine does. proof is a file that exists once the module is there, whether loaded or built in.
var modules = []struct{ name, proof, purpose string }{
	{"overlay", "/sys/module/overlay", "containerd's snapshots"},
	{"br_netfilter", "/proc/sys/net/bridge", "Services between pods of one host"},
	{"nf_conntrack", "/proc/sys/net/netfilter", "kube-proxy"},
	{"vxlan", "/sys/module/vxlan", "flannel's VXLAN backend"},
	{"ip_vs", "/proc/net/ip_vs", "kube-proxy's IPVS mode"},
}

// prepareKernel loads what can be loaded and says what is missing: not every cluster needs every module.
func prepareKernel(ctx context.Context, log io.Writer) {
	raiseInotify(log)
	modprobe, lookErr := lookPath("modprobe")
	for _, m := range modules {
		if _, err := os.Stat(m.proof); err == nil {
			continue
		}
		err := lookErr
		if err == nil {
			err = exec.CommandContext(ctx, modprobe, m.name).Run()
		}
		if err != nil {
			fmt.Fprintf(log, "kernel module %s is missing, which is needed for %s\n", m.name, m.purpose)
		}
	}
	// Docker's isolation rules would drop what pods of different hosts send each other by pod address. The setting is
	// the machine's network namespace's; each host has its own.
	for _, name := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		path := "/proc/sys/net/bridge/" + name
		if now, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(now)) == "0" {
			continue
		}
		if err := os.WriteFile(path, []byte("0"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			fmt.Fprintf(log, "%v: pods of different hosts may not reach each other by address\n", err)
		}
	}
}

// The kernel counts inotify instances by user, and root is one user on all hosts together. A host with a control plane
// takes some 20 of the 128 that there are by default, and a kubelet that gets none does not start.
const (
	inotifyInstances    = "/proc/sys/fs/inotify/max_user_instances"
	minInotifyInstances = 1024
)

// raiseInotify lets many hosts watch files at once. A machine that allows more already is left alone.
func raiseInotify(log io.Writer) {
	data, err := os.ReadFile(inotifyInstances)
	if err == nil {
		var now int
		if now, err = strconv.Atoi(strings.TrimSpace(string(data))); err == nil && now < minInotifyInstances {
			err = os.WriteFile(inotifyInstances, []byte(strconv.Itoa(minInotifyInstances)), 0)
		}
	}
	if err != nil {
		fmt.Fprintf(log, "%v: kubelets of many hosts may not start\n", err)
	}
}

// capSysResource is CAP_SYS_RESOURCE of linux/capability.h. Machines that lack it cannot run a privileged container.
const capSysResource = 24

// privilegeFlags are the docker create flags that let a container be a machine.
func privilegeFlags() ([]string, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	whole, err := hasCapability(string(status), capSysResource)
	if err != nil {
		return nil, err
	}
	if whole {
		return []string{"--privileged"}, nil
	}
	return []string{
		"--cap-add=ALL", "--cap-drop=SYS_RESOURCE",
		"--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--security-opt=systempaths=unconfined",
		"--device=/dev/kmsg", "--device-cgroup-rule=a *:* rwm",
	}, nil
}

// hasCapability reads the bounding set out of a /proc/PID/status.
func hasCapability(status string, bit uint) (bool, error) {
	for line := range strings.Lines(status) {
		if hex, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return set>>bit&1 == 1, err
		}
	}
	return false, errors.New("/proc/self/status: no CapBnd")
}
