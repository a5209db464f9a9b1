package cmd

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/fetch"
	"github.com/myadm/myadm/workflow"
)

func newBundleCommand(streams Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Make, check and compare bundles of what hosts need, for networks without a way out",
		Long: `Make, check and compare bundles of what hosts need.

A bundle holds the binaries and images of one version of Kubernetes. It is made where there is a way out, or a mirror, and
carried to where there is none: --bundle of init, join, apply and upgrade names it.`,
	}
	cmd.AddCommand(newBundleCreateCommand(streams), newBundleVerifyCommand(streams), newBundleShowCommand(streams),
		newBundleDiffCommand(streams), newBundlePruneCommand(streams))
	return group(cmd)
}

func newBundleVerifyCommand(streams Streams) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use:     "verify BUNDLE",
		Short:   "Check every byte of a bundle",
		Example: "  myadm bundle verify kubernetes-v1.37.2.tar",
		Args:    asUsage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBundleVerify(cmd.Context(), streams, args[0], output)
		},
	}
	output.register(cmd)
	return cmd
}

func runBundleVerify(ctx context.Context, streams Streams, path string, output outputFlag) error {
	b, err := bundle.Open(path)
	if err != nil {
		return err
	}
	defer b.Close()
	report, closeView := newView(streams, false)
	err = verifyBundle(ctx, report, b)
	closeView()
	if err != nil {
		return err
	}
	bytes, stored := bundle.TotalSize(b.Index.Artifacts), bundle.StoredSize(b.Index.Artifacts)
	if output.json() {
		return writeJSON(streams.Out, struct {
			Path              string `json:"path"`
			KubernetesVersion string `json:"kubernetesVersion"`
			Artifacts         int    `json:"artifacts"`
			Bytes             int64  `json:"bytes"`
			StoredBytes       int64  `json:"storedBytes"`
		}{path, b.Index.KubernetesVersion, len(b.Index.Artifacts), bytes, stored})
	}
	_, err = fmt.Fprintf(streams.Out, "%s: Kubernetes %s, %s, %s: ok\n", path, b.Index.KubernetesVersion,
		count(len(b.Index.Artifacts), "artifact"), formatStored(bytes, stored))
	return err
}

// verifyBundle verifies a bundle and tells how far it has come.
func verifyBundle(ctx context.Context, report workflow.Reporter, b *bundle.Bundle) error {
	item := filepath.Base(b.Path())
	view := newWorkView(report, "verify", "verified", 1)
	err := b.Verify(ctx, func(done, total int64) { view.progress(item, done, total) })
	if err == nil {
		view.ended(item)
	} else {
		view.failed(item)
	}
	view.end()
	return err
}

func newBundleShowCommand(streams Streams) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "show BUNDLE",
		Short: "List what is in a bundle",
		Example: `  myadm bundle show kubernetes-v1.37.2.tar
  myadm bundle show kubernetes-v1.37.2.tar -o json`,
		Args: asUsage(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return runBundleShow(streams, args[0], output) },
	}
	output.register(cmd)
	return cmd
}

func runBundleShow(streams Streams, path string, output outputFlag) error {
	b, err := bundle.Open(path)
	if err != nil {
		return err
	}
	defer b.Close()
	if output.json() {
		return writeJSON(streams.Out, b.Index)
	}
	fmt.Fprintf(streams.Out, "Kubernetes %s, %s\n\n", b.Index.KubernetesVersion,
		formatStored(bundle.TotalSize(b.Index.Artifacts), bundle.StoredSize(b.Index.Artifacts)))
	return printArtifacts(streams.Out, b.Index.Artifacts)
}

func printArtifacts(out io.Writer, artifacts []bundle.Artifact) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tVERSION\tKIND\tARCH\tSIZE\tSTORED\tROLES")
	for _, a := range artifacts {
		var roles []string
		for _, role := range a.Roles {
			roles = append(roles, string(role))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", a.Name, a.Version, a.Kind, a.Arch,
			formatBytes(a.Size()), formatBytes(a.StoredSize()), strings.Join(roles, ","))
	}
	return w.Flush()
}

// formatStored tells how many bytes something has, and how many of them are stored, and travel, when that is less.
func formatStored(bytes, stored int64) string {
	if stored == bytes {
		return formatBytes(bytes)
	}
	return formatBytes(bytes) + ", compressed to " + formatBytes(stored)
}

func newBundleDiffCommand(streams Streams) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use:     "diff A B",
		Short:   "Tell what bundle B has that A has not: what an upgrade from A to B carries",
		Example: "  myadm bundle diff kubernetes-v1.36.3.tar kubernetes-v1.37.2.tar",
		Args:    asUsage(cobra.ExactArgs(2)),
		RunE:    func(_ *cobra.Command, args []string) error { return runBundleDiff(streams, args[0], args[1], output) },
	}
	output.register(cmd)
	return cmd
}

func runBundleDiff(streams Streams, pathA, pathB string, output outputFlag) error {
	a, err := bundle.Open(pathA)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := bundle.Open(pathB)
	if err != nil {
		return err
	}
	defer b.Close()
	d := bundle.Diff(a, b)
	if output.json() {
		type share struct {
			Artifacts []bundle.Artifact `json:"artifacts"`
			Blobs     []bundle.Blob     `json:"blobs"`
			Bytes     int64             `json:"bytes"`
			Stored    int64             `json:"storedBytes"`
		}
		shareOf := func(s bundle.Share) share { // lists that are empty, and not null
			return share{append([]bundle.Artifact{}, s.Artifacts...), append([]bundle.Blob{}, s.Blobs...), s.Bytes(), s.StoredBytes()}
		}
		return writeJSON(streams.Out, struct {
			OnlyA share `json:"onlyA"`
			OnlyB share `json:"onlyB"`
		}{shareOf(d.OnlyA), shareOf(d.OnlyB)})
	}
	for _, side := range []struct {
		path string
		only bundle.Share
	}{{pathA, d.OnlyA}, {pathB, d.OnlyB}} {
		fmt.Fprintf(streams.Out, "Only %s has: %s, %s\n", side.path, count(len(side.only.Artifacts), "artifact"),
			formatStored(side.only.Bytes(), side.only.StoredBytes()))
		if len(side.only.Artifacts) > 0 {
			if err := printArtifacts(streams.Out, side.only.Artifacts); err != nil {
				return err
			}
		}
	}
	return nil
}

func newBundlePruneCommand(streams Streams) *cobra.Command {
	var output outputFlag
	var dir, limit string
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete from the cache of downloads what was not used for longest",
		Example: `  # everything
  myadm bundle prune

  # all but 2 GiB
  myadm bundle prune --limit 2Gi`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return runBundlePrune(streams, dir, limit, output) },
	}
	cmd.Flags().StringVar(&dir, "cache-dir", "", "`folder` of the cache (default myadm in the user's folder for caches)")
	cmd.Flags().StringVar(&limit, "limit", "0", "`size` that may stay, such as 2Gi")
	output.register(cmd)
	return cmd
}

func runBundlePrune(streams Streams, dir, limit string, output outputFlag) error {
	size, err := resource.ParseQuantity(limit)
	if err != nil || size.Sign() < 0 {
		return usageError{fmt.Errorf("--limit %s is not a size; hint: write it as 2Gi", limit)}
	}
	cache, err := fetch.OpenCache(dir)
	if err != nil {
		return err
	}
	defer cache.Close()
	pruned, err := cache.Prune(size.Value())
	if err != nil {
		return err
	}
	if output.json() {
		return writeJSON(streams.Out, pruned)
	}
	_, err = fmt.Fprintf(streams.Out, "%s deleted, %s; %s stay in %s\n", count(pruned.Files, "file"), formatBytes(pruned.Deleted),
		formatBytes(pruned.Kept), cache.Dir())
	return err
}
