package phases

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// Proxy gives containerd and the kubelet the document's proxy, or takes an earlier one from them. A proxy that is new takes
// effect when the phases runtime and kubelet find that its files are newer than what runs; one that goes is made to go at
// once. Without a document there are no hosts for it. A runtime of the user's is left alone.
func Proxy(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	if !c.Config.Described() {
		nodes = nil
	}
	given := c.Config.Spec.Proxy.Given()
	look := func(ctx context.Context, r host.Reader) (proxyState, error) {
		s := proxyState{env: manifests.ProxyEnv(params(c))}
		if given {
			s.wanted = []host.File{s.env, manifests.ProxyDropIn(manifests.KubeletProxyPath)}
			if c.Config.Spec.Runtime.Type != config.RuntimeExisting {
				s.wanted = append(s.wanted, manifests.ProxyDropIn(manifests.ContainerdProxyPath))
			}
		}
		return s, s.look(ctx, r)
	}
	return workflow.Phase{
		Name:  "proxy",
		Short: "give containerd and the kubelet their proxy",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			s, err := look(ctx, r)
			return s.changes, err
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			s, err := look(ctx, h)
			if err != nil {
				return err
			}
			if err := writeChanged(ctx, h, s.wanted, s.changes); err != nil {
				return err
			}
			if len(s.gone) == 0 {
				return nil
			}
			return s.takeAway(ctx, h, given)
		},
	}
}

// proxied are the units with a proxy, each with its drop-in.
var proxied = []struct{ unit, dropIn string }{
	{"containerd.service", manifests.ContainerdProxyPath},
	{"kubelet.service", manifests.KubeletProxyPath},
}

// proxyState is what a host has of a proxy, and what is to become of it.
type proxyState struct {
	env     host.File
	wanted  []host.File
	have    map[string][]byte // those of the files that are there and ours
	gone    []string          // those of them that are not wanted
	changes []workflow.Change
}

func (s *proxyState) look(ctx context.Context, r host.Reader) error {
	paths := []string{config.ProxyEnv}
	for _, p := range proxied {
		paths = append(paths, p.dropIn)
	}
	var err error
	if s.have, err = ReadFiles(ctx, r, paths); err != nil {
		return err
	}
	if s.changes, err = diffFiles(ctx, r, s.wanted); err != nil {
		return err
	}
	var gone []workflow.Change
	for _, p := range slices.Backward(paths) { // the environment last: it is what a run that is cut is found by
		wanted := slices.ContainsFunc(s.wanted, func(f host.File) bool { return f.Path == p })
		if data, there := s.have[p]; there && !wanted && manifests.Marked(data) {
			s.gone = append(s.gone, p)
			gone = append(gone, workflow.Change{Action: workflow.Delete, Object: p})
		}
	}
	err = ShowFiles(ctx, r, gone)
	s.changes = append(s.changes, gone...)
	return err
}

// takeAway takes files away that are not wanted. First the environment is made empty: so it is newer than what still runs with
// the old one, also when a run is cut here.
func (s *proxyState) takeAway(ctx context.Context, h host.Host, given bool) error {
	if data, there := s.have[config.ProxyEnv]; there && !given && !bytes.Equal(data, s.env.Data) {
		if err := h.WriteFiles(ctx, s.env); err != nil {
			return err
		}
	}
	if err := s.restart(ctx, h); err != nil {
		return err
	}
	var dropIns, folders []string
	for _, p := range proxied {
		folders = append(folders, path.Dir(p.dropIn))
		if slices.Contains(s.gone, p.dropIn) {
			dropIns = append(dropIns, p.dropIn)
		}
	}
	if err := h.Remove(ctx, dropIns...); err != nil {
		return err
	}
	if err := removeEmpty(ctx, h, folders...); err != nil {
		return err
	}
	if err := reloadUnits(ctx, h); err != nil || !slices.Contains(s.gone, config.ProxyEnv) {
		return err
	}
	return h.Remove(ctx, config.ProxyEnv)
}

// restart starts those units anew that run with an older environment than their files say.
func (s *proxyState) restart(ctx context.Context, h host.Host) error {
	for _, p := range proxied {
		state, err := readUnit(ctx, h, p.unit, config.ProxyEnv, p.dropIn)
		if err != nil {
			return err
		}
		if !state.running() || !state.older() {
			continue
		}
		if err := reloadUnits(ctx, h); err != nil {
			return err
		}
		if _, err := h.Run(ctx, host.Command("systemctl", "restart", p.unit)); err != nil {
			return fmt.Errorf("restart %s: %w; hint: journalctl -u %s on the host", p.unit, err, p.unit)
		}
	}
	return nil
}

func reloadUnits(ctx context.Context, h host.Host) error {
	if _, err := h.Run(ctx, host.Command("systemctl", "daemon-reload")); err != nil {
		return fmt.Errorf("have systemd read its units: %w", err)
	}
	return nil
}
