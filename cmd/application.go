package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/apply"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/upgrade"
	"github.com/myadm/myadm/workflow"
)

// documentFlags are those of the commands that make, or compare, a whole cluster with a document.
type documentFlags struct {
	target
	selection
	tokenTTL       time.Duration
	maxUnavailable string
	drain          upgrade.DrainOptions
	pruned         []string
}

func (f *documentFlags) register(cmd *cobra.Command) {
	f.target.register(cmd)
	f.registerArtifacts(cmd)
	f.selection.register(cmd)
	f.registerConcurrency(cmd)
	cmd.Flags().DurationVar(&f.tokenTTL, "token-ttl", kube.DefaultTokenTTL, "life of the token that a new cluster gets for hosts that are not in the document")
	cmd.Flags().StringVar(&f.maxUnavailable, "max-unavailable", upgrade.DefaultMaxUnavailable, "how many workers are changed at a time: a `number`, or a percentage such as 25%")
	cmd.Flags().StringArrayVar(&f.pruned, "prune", nil, "`name` of a node to take out of the cluster and clean, which the document does not name any more; may be repeated")
	registerDrain(cmd.Flags(), &f.drain)
}

// application is a document with its hosts, as they are.
type application struct {
	c         *cluster.Cluster
	state     *apply.State
	unreached error // of hosts that could not be reached, while the others go on

	pruned *cluster.Cluster // hosts that leave it; nil: none
	leave  *phases.Leave
}

// connect reads the document and connects to its hosts. An error may come with an application, which is to be closed.
func (f *documentFlags) connect(ctx context.Context, streams Streams) (*application, error) {
	if f.file == "" {
		return nil, usageError{errors.New("there is no document; hint: -f cluster.yaml, as `myadm config defaults` prints one")}
	}
	if err := upgrade.CheckMaxUnavailable(f.maxUnavailable); err != nil {
		return nil, usageError{fmt.Errorf("--max-unavailable: %w", err)}
	}
	cfg, err := f.load(config.RoleControlPlane)
	if err != nil {
		return nil, err
	}
	b, err := openBundle(cfg)
	if err != nil {
		return nil, err
	}
	config.SetDefaults(cfg)
	if err := cmp.Or(config.Validate(cfg), config.ValidateFiles(cfg)); err != nil {
		return nil, err
	}
	if err := resolveVersion(ctx, streams, cfg); err != nil {
		return nil, err
	}
	f.dials = f.concurrency
	a := &application{}
	a.c, a.unreached = f.open(ctx, cfg, b, streams)
	if len(a.c.ControlPlanes()) == 0 {
		return a, a.unreached
	}
	return a, nil
}

// survey looks at the hosts and at the cluster, if there is one. It changes nothing.
func (f *documentFlags) survey(ctx context.Context, streams Streams, a *application) (err error) {
	if a.state, err = apply.Survey(ctx, a.c); err == nil {
		err = apply.Learn(ctx, a.c)
	}
	if err == nil {
		err = apply.CheckFixed(ctx, a.c, a.state)
	}
	if err == nil && len(a.state.Members) == 0 {
		err = apply.CheckVersion(ctx, a.c, a.state.Founder)
	}
	if err == nil {
		err = f.prune(ctx, streams, a)
	}
	if err != nil {
		return errors.Join(a.unreached, err)
	}
	return nil
}

// steps are what makes the document's cluster of the hosts: who leaves goes first.
func (a *application) steps(opts apply.Options) []workflow.Step {
	var steps []workflow.Step
	if a.leave != nil {
		steps = a.leave.Steps()
	}
	return append(steps, apply.Steps(a.c, a.state, opts)...)
}

func (f *documentFlags) options() apply.Options {
	return apply.Options{
		IgnorePreflight: f.ignorePreflight, Patience: f.timeout, TokenTTL: f.tokenTTL, MaxUnavailable: f.maxUnavailable, Drain: f.drain,
	}
}
