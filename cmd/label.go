package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/fetch"
)

// resolveVersion has the document, which is valid, name the version that its label stands for today, and tells of it. A
// document that names a version already asks nobody.
func resolveVersion(ctx context.Context, streams Streams, cfg *config.Cluster) error {
	label := cfg.Spec.KubernetesVersion
	if !config.IsLabel(label) {
		return nil
	}
	version, err := lookUp(ctx, label, cfg.Spec.Artifacts)
	if err != nil {
		return err
	}
	if _, err := config.VersionsOf(version); err != nil {
		return fmt.Errorf("%s stands for %s: %w", label, version, err)
	}
	cfg.Spec.KubernetesVersion = version
	streams.note(slog.LevelInfo, fmt.Sprintf("Kubernetes %s is %s.", label, version))
	return nil
}

// lookUp asks the mirror, or else Kubernetes' own server, what a label stands for.
func lookUp(ctx context.Context, label string, a config.Artifacts) (string, error) {
	options, err := fetchOptions(a)
	if err != nil {
		return "", err
	}
	f, err := fetch.New(ctx, options)
	if err != nil {
		return "", err
	}
	version, err := f.Resolve(ctx, label)
	return version, errors.Join(err, f.Close())
}

// fetchOptions are how to fetch from where a document's artifacts are.
func fetchOptions(a config.Artifacts) (fetch.Options, error) {
	options := fetch.Options{Mirror: a.Mirror, CAFile: a.CAFile}
	if a.CredentialsFile == "" {
		return options, nil
	}
	var err error
	options.Keychain, err = fetch.KeychainFile(a.CredentialsFile)
	return options, err
}

// loadRunning is load for commands on a cluster as it is, which knows its version itself.
func (t *target) loadRunning(role config.Role) (*config.Cluster, error) {
	cfg, err := t.load(role)
	if err != nil {
		return nil, err
	}
	forgetLabel(cfg)
	return cfg, nil
}

// forgetLabel takes a label out of a document whose cluster says by itself what version it has: a label that has moved since
// has nothing to say there, and nobody need be asked. One that is not valid stays, for validation to refuse.
func forgetLabel(cfg *config.Cluster) {
	if v := cfg.Spec.KubernetesVersion; config.IsLabel(v) && config.CheckWanted(v) == nil {
		cfg.Spec.KubernetesVersion = ""
	}
}
