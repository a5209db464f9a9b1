package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/courier/wire"
	"github.com/myadm/myadm/delivery"
	"github.com/myadm/myadm/fetch"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/timeline"
	"github.com/myadm/myadm/workflow"
)

// registerSource adds the flags that say where binaries and images come from.
func (t *target) registerSource(f *pflag.FlagSet) {
	f.StringVar(&t.bundle, "bundle", "", "bundle of binaries and images: a folder or a file")
	f.StringVar(&t.mirror, "mirror", "", "`URL` of a mirror of the makers' servers to fetch them from, without a bundle")
	f.StringVar(&t.mirrorCA, "mirror-ca-file", "", "PEM `file` of certificate authorities of the mirror besides the system's")
	f.StringVar(&t.mirrorLogin, "registry-config", "", "`file` with credentials of the mirror in the form of docker's config.json (default docker's own)")
	f.StringVar(&t.delivery, "delivery", "", "how they reach the hosts: `way` auto, download (by the hosts themselves), upload, or peer (hosts pass them on)")
	f.StringVar(&t.signatureRoots, "signature-roots", "", "`file` that says whose signatures to believe: sigstore's trusted_root.json, or PEM; see docs/signatures.md")
	f.BoolVar(&t.verifySignatures, "verify-signatures", false, "refuse what its makers sign when the mirror lacks its signature; wrong signatures are refused always")
}

// overrideSource puts the flags over the document. A bundle and a mirror say the same thing: of the one that a flag names,
// the document need not know.
func (t *target) overrideSource(cfg *config.Cluster) {
	a := &cfg.Spec.Artifacts
	switch {
	case t.bundle != "" && t.mirror == "":
		*a = config.Artifacts{Delivery: a.Delivery}
	case t.mirror != "" && t.bundle == "":
		a.Bundle = ""
	}
	override(cfg, &a.Bundle, t.bundle, "--bundle", "spec.artifacts.bundle")
	override(cfg, &a.Mirror, t.mirror, "--mirror", "spec.artifacts.mirror")
	override(cfg, &a.CAFile, t.mirrorCA, "--mirror-ca-file", "spec.artifacts.caFile")
	override(cfg, &a.CredentialsFile, t.mirrorLogin, "--registry-config", "spec.artifacts.credentialsFile")
	override(cfg, &a.Delivery, t.delivery, "--delivery", "spec.artifacts.delivery")
	override(cfg, &a.Signatures.Roots, t.signatureRoots, "--signature-roots", "spec.artifacts.signatures.roots")
	if t.verifySignatures {
		a.Signatures.Required = true
		cfg.GivenBy("--verify-signatures", "spec.artifacts.signatures.required")
	}
}

// provide says how what is needed reaches the hosts: from c's bundle or, without one, from the document's mirror or the
// makers' servers. Nothing but what is asked for later is fetched from there. hosts is how many are likely to get something.
// release is to be called when the hosts need nothing more.
func (t *target) provide(ctx context.Context, streams Streams, c *cluster.Cluster, hosts int, needed bool) (release func(), err error) {
	a := c.Config.Spec.Artifacts
	options := delivery.Options{Way: wayOf(c), Bundle: c.Bundle, Hosts: hosts, Now: c.Now, Warn: workflow.Warn}
	closeSource := func() {}
	if c.Bundle == nil && needed && len(c.Nodes) > 0 {
		wanted := a.Mirror != ""
		if !wanted {
			if wanted, err = lacking(ctx, c); err != nil {
				return nil, err
			}
		}
		if wanted {
			if closeSource, err = t.locate(ctx, streams, c, &options); err != nil {
				return nil, err
			}
			c.Bundle = options.Bundle
		}
	}
	d := delivery.New(options)
	c.Deliver(d)
	return func() {
		if err := d.Close(ctx); err != nil {
			streams.note(slog.LevelWarn, fmt.Sprintf("tidy up after the delivery: %v; the next run, or reset, does it", err))
		}
		closeSource()
	}, nil
}

// wayOf is the document's way of delivery. A command on the machine itself has nobody to send anything to.
func wayOf(c *cluster.Cluster) delivery.Way {
	way := c.Config.Spec.Artifacts.Delivery
	if way == config.DeliveryAuto && len(c.Nodes) == 1 && c.Nodes[0].Spec.Address == "" {
		way = config.DeliveryUpload
	}
	return delivery.Way(way)
}

// lacking tells whether a host lacks a kubelet of the cluster's version, or a runtime.
func lacking(ctx context.Context, c *cluster.Cluster) (bool, error) {
	g, ctx := errgroup.WithContext(ctx)
	var lacks atomic.Bool
	for _, n := range c.Nodes {
		g.Go(func() error {
			script := "exec " + manifests.BinDir + "/kubelet --version"
			if c.Config.Spec.Runtime.Type != config.RuntimeExisting {
				script = "test -x " + manifests.BinDir + "/containerd && " + script
			}
			out, err := n.Query(ctx, host.Command("sh", "-c", script))
			if _, ran := host.ExitCode(err); err != nil && !ran {
				return err
			}
			if strings.TrimSpace(string(out)) != "Kubernetes "+c.Config.Spec.KubernetesVersion {
				lacks.Store(true)
			}
			return nil
		})
	}
	err := g.Wait()
	return lacks.Load(), err
}

// locate finds what the hosts need at the mirror or the makers' servers, without getting it.
func (t *target) locate(ctx context.Context, streams Streams, c *cluster.Cluster, o *delivery.Options) (release func(), err error) {
	options, err := fetchOptions(c.Config.Spec.Artifacts)
	if err != nil {
		return nil, err
	}
	if options.Signatures, err = signaturesOf(c.Config.Spec.Artifacts.Signatures); err != nil {
		return nil, err
	}
	began := time.Now()
	defer func() { streams.journal.span("locate", timeline.Here, began, err) }()
	report, closeView := newView(streams, t.verbose)
	view := newFetchView(report)
	options.Progress = view.tell
	f, err := fetch.New(ctx, options)
	if err != nil {
		closeView()
		return nil, err
	}
	o.Net = netOf(c.Config.Spec.Proxy, f.CA())
	located, err := f.Locate(ctx, c.Config.Spec.KubernetesVersion, archsOf(c), nil)
	view.close() // what is fetched later, for a phase, is told by that phase
	closeView()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	proofsOf(f.Verified()).note(streams)
	o.Bundle, o.Ensure = located.Bundle, located.Ensure
	o.Origins = func(ctx context.Context) (map[string]delivery.Origin, error) { return originsOf(ctx, located) }
	return func() {
		_ = located.Bundle.Close()
		_ = f.Close() // what is left in the cache is for the next run to bring below its limit
	}, nil
}

// netOf is how hosts get to the mirror or the makers' servers.
func netOf(p config.Proxy, authorities []byte) wire.Net {
	return wire.Net{
		CA:    string(authorities),
		Proxy: wire.Proxy{HTTP: string(p.HTTPProxy), HTTPS: string(p.HTTPSProxy), No: strings.Join(p.NoProxy, ",")},
	}
}

func originsOf(ctx context.Context, located *fetch.Located) (map[string]delivery.Origin, error) {
	sources, err := located.Sources(ctx)
	if err != nil {
		return nil, err
	}
	origins := make(map[string]delivery.Origin, len(sources))
	for sum, s := range sources {
		origins[sum] = delivery.Origin{Source: wire.Source{URL: s.URL, Headers: s.Headers}, Blob: s.Blob, Member: s.Member}
	}
	return origins, nil
}

// archsOf are the architectures of the hosts.
func archsOf(c *cluster.Cluster) []string {
	var archs []string
	for _, n := range c.Nodes {
		if !slices.Contains(archs, n.Facts.Arch) {
			archs = append(archs, n.Facts.Arch)
		}
	}
	slices.Sort(archs)
	return archs
}
