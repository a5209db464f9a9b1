package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/staticpod"
	"github.com/myadm/myadm/workflow"
)

// binary is a program of the bundle, and where a host has it.
type binary struct {
	bundle.Artifact        // Target is the host's own place for it
	runtime         bool   // it comes with the container runtime
	staged          string // where it waits until the one that runs may go
	previous        string // where the one that it replaces is kept
}

// machineScript waits for an exchange that an earlier run may have left under way, and prints the kubelet's path.
const machineScript = `
while systemctl is-active --quiet ` + staticpod.Unit + `; do sleep 0.1; done
systemctl show -p ExecStart kubelet.service
`

// askKubelet waits for what an earlier run may have left under way, and gives what systemd says of the kubelet's program.
func askKubelet(ctx context.Context, r host.Reader) ([]byte, error) {
	out, err := r.Query(ctx, host.Command("sh", "-c", machineScript))
	if err != nil {
		return nil, fmt.Errorf("ask for the kubelet: %w", err)
	}
	return out, nil
}

// binaries are those of a host that the bundle has in another version, or has none of: nil without a bundle. Those that
// the host does not have are not brought. The kubelet is where its unit runs it, and a runtime that is not myadm's
// stays as it is.
func binaries(ctx context.Context, c *cluster.Cluster, r host.Reader) ([]binary, error) {
	out, err := askKubelet(ctx, r)
	if err != nil {
		return nil, err
	}
	if c.Bundle == nil {
		return nil, nil
	}
	runtime, others, err := phases.NodeBinaries(c, c.Node(r))
	if err != nil {
		return nil, err
	}
	managed, err := managesRuntime(ctx, r)
	if err != nil {
		return nil, err
	}
	var all []binary
	for _, a := range others {
		if at := kubeletPath(out); a.Name == "kubelet" && at != "" {
			a.Target = at
		}
		all = append(all, place(a, false))
	}
	for _, a := range runtime {
		if managed {
			all = append(all, place(a, true))
		}
	}
	return existing(ctx, r, all)
}

func place(a bundle.Artifact, runtime bool) binary {
	return binary{Artifact: a, runtime: runtime, staged: config.StagedBinary(a.Target), previous: config.PreviousBinary(a.Target)}
}

// existing leaves out what the host does not have.
func existing(ctx context.Context, r host.Reader, all []binary) ([]binary, error) {
	paths := make([]string, len(all))
	for i, b := range all {
		paths[i] = b.Target
	}
	infos, err := r.Stat(ctx, paths...)
	if err != nil {
		return nil, err
	}
	var there []binary
	for i, b := range all {
		if infos[i].Exists {
			there = append(there, b)
		}
	}
	return there, nil
}

// kubeletPath reads the program that systemd starts: ExecStart={ path=/usr/local/bin/kubelet ; argv[]=... }. It is empty
// when systemd names none.
func kubeletPath(show []byte) string {
	_, rest, ok := strings.Cut(string(show), "path=")
	at, _, _ := strings.Cut(rest, " ;")
	if at = strings.TrimSpace(at); !ok || host.CheckPath(at) != nil {
		return ""
	}
	return at
}

// managesRuntime tells whether the host's containerd is one that myadm brought.
func managesRuntime(ctx context.Context, r host.Reader) (bool, error) {
	data, err := r.ReadFile(ctx, manifests.ContainerdUnitPath)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(manifests.MarkedBinaries(data)) > 0, err
}

// stale are those of the binaries that are not the bundle's where the host has them, by one look at the host.
func stale(ctx context.Context, r host.Reader, all []binary) ([]binary, error) {
	artifacts := make([]bundle.Artifact, len(all))
	for i, b := range all {
		artifacts[i] = b.Artifact
	}
	changes, err := phases.DiffBinaries(ctx, r, artifacts)
	return slices.DeleteFunc(slices.Clone(all), func(b binary) bool {
		return !slices.ContainsFunc(changes, func(c workflow.Change) bool { return c.Object == b.Target })
	}), err
}
