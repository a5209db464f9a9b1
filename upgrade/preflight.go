package upgrade

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

// PreflightOptions are what an upgrade's preflight goes by.
type PreflightOptions struct {
	Target string   // the version to upgrade to
	Force  bool     // an older patch release will do
	Ignore []string // names of findings that are to be warnings; "all" for every one
	State  *State   // what a Survey has found; nil: it is made

	Settle time.Duration // how long what was started a moment ago is waited for

	Document bool // as in Options: what counts is what the document has the hosts run with
}

// Preflight refuses an upgrade that would go wrong, with everything there is against it, and warns of the rest. It changes
// nothing. Its error is a *phases.PreflightError.
func Preflight(c *cluster.Cluster, opts PreflightOptions) workflow.Phase {
	return workflow.Phase{
		Name:  "preflight",
		Short: "check that the cluster can be upgraded",
		Check: func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
			to, err := TargetOf(c, opts.Target, opts.Force)
			if err != nil {
				return nil, err
			}
			fatal, others, err := opts.judge(ctx, c, to)
			if err != nil {
				return nil, err
			}
			for _, f := range others {
				workflow.Warn(ctx, "["+f.Name+"] "+f.String())
			}
			if len(fatal) == 0 {
				return nil, nil
			}
			var refused phases.PreflightError
			for _, f := range fatal {
				refused.Findings = append(refused.Findings, phases.Finding{Name: f.Name, Fatal: true, Message: f.String()})
			}
			return nil, &refused
		},
	}
}

// passing are findings that there are of a cluster one of whose hosts was started a moment ago.
var passing = []string{findingAPI, findingControlPlane, findingEtcd, findingReady, findingRuntime}

// judge tells what is against an upgrade, and what else is to be known. While nothing but what may pass is against it, it
// looks again, for as long as opts say.
func (opts PreflightOptions) judge(ctx context.Context, c *cluster.Cluster, to Target) (fatal, others []Finding, err error) {
	began := time.Now()
	for {
		fatal, others = nil, nil
		state := opts.State
		if state == nil {
			if state, err = Survey(ctx, c); err != nil {
				return nil, nil, err
			}
		}
		if opts.Document {
			if err := state.follow(ctx, c); err != nil {
				return nil, nil, err
			}
		}
		for _, f := range Findings(state, to) {
			if f.Fatal && !phases.Ignored(f.Name, opts.Ignore) {
				fatal = append(fatal, f)
			} else {
				others = append(others, f)
			}
		}
		silent := slices.ContainsFunc(fatal, func(f Finding) bool { return f.Name == findingAPI })
		stays := func(f Finding) bool { // of an API that is silent the version is not known either
			return !slices.Contains(passing, f.Name) && !(silent && f.Name == FindingVersion)
		}
		if len(fatal) == 0 || slices.ContainsFunc(fatal, stays) || time.Since(began) >= opts.Settle {
			return fatal, others, nil
		}
		workflow.Tell(ctx, "wait: "+fatal[0].String())
		select {
		case <-time.After(settlePause):
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// settlePause lies between two looks at a cluster that is not well yet. A look takes a second.
const settlePause = time.Second

// follow puts what the document has for the hosts in place of what they run with now. Images stay: they tell what runs.
func (s *State) follow(ctx context.Context, c *cluster.Cluster) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes {
		h := s.Host(n.Spec.Name)
		if h == nil || h.Err != nil {
			continue
		}
		g.Go(func() error {
			if err := h.follow(ctx, c, n); err != nil {
				return fmt.Errorf("%s: %w", n.Name(), err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (h *HostState) follow(ctx context.Context, c *cluster.Cluster, n *cluster.Node) error {
	files, err := phases.KubeletFiles(ctx, c, n)
	if err != nil {
		return err
	}
	for _, f := range files {
		switch f.Path {
		case config.KubeletFlagsEnv:
			h.KubeletFlags = f.Data
		case config.KubeletConfigFile:
			h.Kubelet = f.Data
		}
	}
	if !n.Spec.HasRole(config.RoleControlPlane) {
		return nil
	}
	pods, err := phases.StaticPodFiles(ctx, c, n)
	if err != nil {
		return err
	}
	for _, f := range pods {
		name := strings.TrimSuffix(path.Base(f.Path), ".yaml")
		image, err := manifests.PodImage(h.Manifests[name])
		if err != nil {
			continue // that there is none to be read is a finding
		}
		if h.Manifests[name], _, err = manifests.WithPodImage(f.Data, image); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return nil
}

// String is the finding in a line, with its hint.
func (f Finding) String() string {
	var line strings.Builder
	if f.Where != whereCluster {
		line.WriteString(f.Where + ": ")
	}
	line.WriteString(f.Message)
	if f.Hint != "" {
		line.WriteString("; hint: " + f.Hint)
	}
	return line.String()
}
