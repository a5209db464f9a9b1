package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/e2e/lab"
)

// programsDir is where the hosts' programs are, of all that an upgrade by kubeadm replaces.
const programsDir = "/usr/local/bin"

// broughtDir is where the programs of a version wait on a host until an upgrade by kubeadm puts them into place.
func broughtDir(version string) string { return "/root/" + version }

// rolesOf are the artifacts of a bundle that kubeadm's users bring to a host for an upgrade.
func rolesOf(h lab.Host) []bundle.Role {
	if h.Role == lab.RoleControlPlane {
		return []bundle.Role{bundle.RoleNode, bundle.RoleControlPlane}
	}
	return []bundle.Role{bundle.RoleNode}
}

// cargo is what goes to a host by ssh, and the command there that reads it.
type cargo struct {
	file     string          // its path; empty: an artifact is sent
	artifact bundle.Artifact // of the release's bundle
	command  []string
}

func (c cargo) open(ctx context.Context, from *bundle.Bundle) (io.ReadCloser, error) {
	switch {
	case c.file != "":
		return os.Open(c.file)
	case c.artifact.Kind == bundle.KindImage:
		archive, _, err := from.Archive(ctx, c.artifact)
		return archive, err
	}
	return from.Open(ctx, c.artifact)
}

// cargoOf is what a release's artifacts, and its kubeadm, are on the way to a host.
func (r release) cargoOf(artifacts []bundle.Artifact) []cargo {
	install := func(name string) []string {
		target := broughtDir(r.version) + "/" + name
		return []string{"mkdir", "-p", broughtDir(r.version), "&&", "cat", ">" + target, "&&", "chmod", "0755", target}
	}
	all := []cargo{{file: r.kubeadm, command: install("kubeadm")}}
	for _, a := range artifacts {
		command := install(a.Name)
		if a.Kind == bundle.KindImage {
			command = []string{"ctr", "--namespace", "k8s.io", "images", "import", "-"}
		}
		all = append(all, cargo{artifact: a, command: command})
	}
	return all
}

// bringByHand brings the new version's images and programs to all hosts at once, as a script of ssh does.
func (b *bench) bringByHand(ctx context.Context) error {
	content, err := bundle.Open(b.bundle)
	if err != nil {
		return err
	}
	defer content.Close()
	return b.onAll(ctx, b.lab.Hosts, func(ctx context.Context, h lab.Host) error {
		for _, c := range b.cargoOf(content.Select(runtime.GOARCH, rolesOf(h)...)) {
			if err := b.sendCargo(ctx, h, content, c); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) sendCargo(ctx context.Context, h lab.Host, from *bundle.Bundle, c cargo) error {
	f, err := c.open(ctx, from)
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, err = feed(ctx, f, slices.Concat([]string{"ssh", "-F", b.lab.Path(lab.SSHConfig), h.Name}, c.command)...)
	return err
}

// command is one command of an upgrade by kubeadm.
type command struct {
	name string // what it does
	node string // that it is for
	on   string // the host it runs on
	argv []string
}

// kubeadmUpgrade is an upgrade of a cluster as kubeadm's documentation has it (kubernetes.io/docs: Upgrading kubeadm
// clusters, Upgrading Linux nodes), with the packages' files in place of packages. Nodes follow each other in
// the order of the hosts, which is that of a lab: control planes first. The administrator sits on the first one.
func kubeadmUpgrade(version string, hosts []lab.Host) []command {
	desk := hosts[0].Name
	isWorker := func(h lab.Host) bool { return h.Role != lab.RoleControlPlane }
	put := func(programs ...string) []string {
		argv := []string{"install", "-m", "0755", "-t", programsDir}
		for _, p := range programs {
			argv = append(argv, broughtDir(version)+"/"+p)
		}
		return argv
	}
	var all []command
	for _, h := range hosts {
		upgrade, programs := []string{"kubeadm", "upgrade", "node"}, []string{"kubelet"}
		if h.Name == desk {
			upgrade = []string{"kubeadm", "upgrade", "apply", version, "--yes"}
		}
		if !isWorker(h) {
			programs = append(programs, "kubectl")
		}
		restart := []string{"&&", "systemctl", "daemon-reload", "&&", "systemctl", "restart", "kubelet"}
		all = append(all,
			command{"kubeadm upgrade", h.Name, h.Name, slices.Concat(put("kubeadm"), []string{"&&"}, upgrade, []string{"--ignore-preflight-errors", ignored})},
			command{"drain", h.Name, desk, slices.Concat(kubectl, []string{"drain", h.Name, "--ignore-daemonsets", "--delete-emptydir-data"})},
			command{"kubelet", h.Name, h.Name, slices.Concat(put(programs...), restart)},
			command{"uncordon", h.Name, desk, slices.Concat(kubectl, []string{"uncordon", h.Name})},
		)
	}
	return all
}

// upgradeByKubeadm runs the commands and waits until all nodes are what they are to be.
func (b *bench) upgradeByKubeadm(ctx context.Context) (times, error) {
	var t times
	start := time.Now()
	timed := func(name, host, text string, do func() error) error {
		from := time.Since(start)
		if err := do(); err != nil {
			return fmt.Errorf("%s of %s: %w", name, host, err)
		}
		to := time.Since(start)
		t.phases = append(t.phases, phase{Name: name, Host: host, From: from.Seconds(), To: to.Seconds(), Text: text})
		b.tell("%s: %s of %s %.1f s", nameKubeadm, name, host, (to - from).Seconds())
		return nil
	}
	for _, c := range kubeadmUpgrade(b.version, b.lab.Hosts) {
		err := timed(c.name, c.node, strings.Join(c.argv, " "), func() error {
			_, err := b.ssh(ctx, c.on, c.argv...)
			return err
		})
		if err != nil {
			return t, err
		}
	}
	t.end = time.Since(start)
	err := timed("Ready", "cluster", "all nodes, of "+b.version, func() error { return b.awaitUpgraded(ctx) })
	t.ready = time.Since(start)
	return t, err
}
