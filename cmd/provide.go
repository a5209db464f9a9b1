package cmd

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/pflag"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/fetch"
)

// registerSource adds the flags that say where binaries and images come from.
func (t *target) registerSource(f *pflag.FlagSet) {
	f.StringVar(&t.bundle, "bundle", "", "bundle of binaries and images: a folder or a file")
	f.StringVar(&t.mirror, "mirror", "", "`URL` of a mirror of the makers' servers to fetch them from, without a bundle")
	f.StringVar(&t.mirrorCA, "mirror-ca-file", "", "PEM `file` of certificate authorities of the mirror besides the system's")
	f.StringVar(&t.mirrorLogin, "registry-config", "", "`file` with credentials of the mirror in the form of docker's config.json (default docker's own)")
	f.StringVar(&t.signatureRoots, "signature-roots", "", "`file` that says whose signatures to believe: sigstore's trusted_root.json, or PEM; see docs/signatures.md")
	f.BoolVar(&t.verifySignatures, "verify-signatures", false, "refuse what its makers sign when the mirror lacks its signature; wrong signatures are refused always")
}

// overrideSource puts the flags over the document. A bundle and a mirror say the same thing: of the one that a flag names,
// the document need not know.
func (t *target) overrideSource(cfg *config.Cluster) {
	a := &cfg.Spec.Artifacts
	switch {
	case t.bundle != "" && t.mirror == "":
		*a = config.Artifacts{}
	case t.mirror != "" && t.bundle == "":
		a.Bundle = ""
	}
	override(cfg, &a.Bundle, t.bundle, "--bundle", "spec.artifacts.bundle")
	override(cfg, &a.Mirror, t.mirror, "--mirror", "spec.artifacts.mirror")
	override(cfg, &a.CAFile, t.mirrorCA, "--mirror-ca-file", "spec.artifacts.caFile")
	override(cfg, &a.CredentialsFile, t.mirrorLogin, "--registry-config", "spec.artifacts.credentialsFile")
	override(cfg, &a.Signatures.Roots, t.signatureRoots, "--signature-roots", "spec.artifacts.signatures.roots")
	if t.verifySignatures {
		a.Signatures.Required = true
		cfg.GivenBy("--verify-signatures", "spec.artifacts.signatures.required")
	}
}

// provide fetches from the document's mirror, if it names one, what the hosts of c need, and gives it to c as its bundle.
// Nothing is fetched unless it is needed. release is to be called when c needs it no more.
func (t *target) provide(ctx context.Context, streams Streams, c *cluster.Cluster, needed bool) (release func(), err error) {
	a := c.Config.Spec.Artifacts
	if !needed || a.Mirror == "" || c.Bundle != nil || len(c.Nodes) == 0 {
		return func() {}, nil
	}
	options := fetch.Options{Mirror: a.Mirror, CAFile: a.CAFile}
	if a.CredentialsFile != "" {
		if options.Keychain, err = fetch.KeychainFile(a.CredentialsFile); err != nil {
			return nil, err
		}
	}
	if options.Signatures, err = signaturesOf(a.Signatures); err != nil {
		return nil, err
	}
	report, closeView := newReporter(streams.Err, t.verbose)
	options.Progress = newFetchView(report).tell
	f, err := fetch.New(ctx, options)
	if err != nil {
		closeView()
		return nil, err
	}
	var archs []string
	for _, n := range c.Nodes {
		if !slices.Contains(archs, n.Facts.Arch) {
			archs = append(archs, n.Facts.Arch)
		}
	}
	slices.Sort(archs)
	b, err := f.Provide(ctx, c.Config.Spec.KubernetesVersion, archs, nil)
	closeView()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	proofsOf(f.Verified()).print(streams.Err)
	c.Bundle = b
	return func() {
		// What is left in the cache is for the next run to bring below its limit.
		_ = b.Close()
		_ = f.Close()
	}, nil
}
