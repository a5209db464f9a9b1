package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
)

// Recover brings back the API of a cluster whose upgrade was cut: it waits until an API server is ready and, where one
// does not become ready that has taken the place of an older one, puts that one back. It reports whether the API answers
// again; it is no error that there is nothing to put back. With document, what was cut may have been about all that the
// document has a host run with, as in Options.
func Recover(ctx context.Context, c *cluster.Cluster, document bool) (bool, error) {
	const patience = recoverPatience
	want := map[string]string{manifests.APIServerName: ""}
	var errs []error
	for _, n := range c.ControlPlanes() {
		replaced, err := wasReplaced(ctx, n)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !replaced {
			continue
		}
		err = judge(ctx, c, n, want, patience)
		var sick *illError
		if errors.As(err, &sick) {
			err = restore(ctx, c, n, sick, document)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.Name(), err))
			continue
		}
		return true, nil
	}
	if len(errs) > 0 || ctx.Err() != nil {
		return false, errors.Join(append(errs, ctx.Err())...)
	}
	return answers(ctx, c, patience), nil
}

// Interrupted tells whether a run was cut, or has failed, while it replaced what a control plane runs. Those that are not
// reached tell nothing.
func Interrupted(ctx context.Context, c *cluster.Cluster) (bool, error) {
	servers := c.ControlPlanes()
	found := make([]bool, len(servers))
	var all sync.WaitGroup
	for i, n := range servers {
		all.Go(func() {
			infos, err := n.Stat(ctx, folder)
			found[i] = err == nil && infos[0].Exists
		})
	}
	all.Wait()
	return slices.Contains(found, true), context.Cause(ctx)
}

// recoverPatience is how long a cluster whose API does not answer may take to answer: an API server may just be starting.
const recoverPatience = time.Minute

// wasReplaced tells whether a control plane keeps something of what its API server ran with before.
func wasReplaced(ctx context.Context, n *cluster.Node) (bool, error) {
	infos, err := n.Stat(ctx, keptPod(manifests.APIServerName), previousFiles, madeFiles)
	if err != nil {
		return false, fmt.Errorf("%s: %w", n.Name(), err)
	}
	return slices.ContainsFunc(infos, func(i host.Info) bool { return i.Exists }), nil
}

// restore puts back what a control plane ran, and waits for its API server.
func restore(ctx context.Context, c *cluster.Cluster, n *cluster.Node, sick *illError, document bool) error {
	survey := func(ctx context.Context, r host.Reader) (machine, error) { return look(ctx, c, r) }
	if document {
		servers := c.ControlPlanes()
		survey = withBinaries(c, byDocument(c, servers, servers[0]))
	}
	m, err := survey(ctx, n)
	if err != nil {
		return errors.Join(sick, err)
	}
	want, err := undo(ctx, c, n, m, sick)
	if err != nil {
		return errors.Join(sick, err)
	}
	if want == nil {
		return sick
	}
	if err := judge(ctx, c, n, want, putBackPatience); err != nil {
		return errors.Join(sick, fmt.Errorf("put back what ran before, and it is not healthy either: %w", err))
	}
	return nil
}

// answers waits until any API server is ready.
func answers(ctx context.Context, c *cluster.Cluster, patience time.Duration) bool {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ready := make(chan bool)
	servers := c.ControlPlanes()
	for _, n := range servers {
		go func() { ready <- waitAPIServer(waiting, c, n) == nil }()
	}
	any := false
	for range servers {
		if <-ready {
			any = true
			cancel() // the others need not be waited for
		}
	}
	return any
}

func waitAPIServer(ctx context.Context, c *cluster.Cluster, n *cluster.Node) error {
	for _, part := range phases.Components(c) {
		if part.Name == manifests.APIServerName {
			return kube.WaitHealthy(ctx, part.Probe(c, n))
		}
	}
	return errors.New("there is no API server")
}
