package cmd

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/config"
)

func newImagesCommand(streams Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "images",
		Short: "List the images of a cluster, bring them to hosts ahead of time, or into a registry",
		Long: `List the images of a cluster, bring them to hosts ahead of time, or into a registry.

They are the images that Kubernetes itself needs: those of the control plane, CoreDNS, kube-proxy, pause, the pod network
and the load balancer of the API servers.`,
	}
	cmd.AddCommand(newImagesListCommand(streams), newImagesPullCommand(streams), newImagesPushCommand(streams))
	return group(cmd)
}

// imagesListFlags are those of images list.
type imagesListFlags struct {
	target
	output outputFlag
}

func newImagesListCommand(streams Streams) *cobra.Command {
	var flags imagesListFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the images that a cluster needs",
		Long: `List the images that a cluster needs, one a line: of a document, its version, imageRepository, network plugin and load
balancer count. A bundle tells their digests as well (-o json), and without a document the images are all that it has.`,
		Example: `  myadm images list --kubernetes-version stable-1.37

  # those of a document
  myadm images list -f cluster.yaml

  # those of a bundle, with their digests
  myadm images list --bundle kubernetes-v1.37.2.tar -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runImagesList(cmd.Context(), streams, flags) },
	}
	cmd.Flags().StringVarP(&flags.file, "file", "f", "", "Cluster `document` (YAML)")
	flags.registerArtifacts(cmd)
	flags.output.register(cmd)
	return cmd
}

// listedImage is a line of images list.
type listedImage struct {
	Image   string            `json:"image"`             // as it is pulled
	Name    string            `json:"name"`              // kube-apiserver
	Version string            `json:"version"`           // the tag
	Digests map[string]string `json:"digests,omitempty"` // of the manifests in a bundle, by architecture
}

func runImagesList(ctx context.Context, streams Streams, flags imagesListFlags) error {
	cfg, err := flags.load(config.RoleControlPlane)
	if err != nil {
		return err
	}
	b, err := openBundle(cfg)
	if err != nil {
		return err
	}
	if b != nil {
		defer b.Close()
	}
	config.SetDefaults(cfg)
	if err := config.ValidateJoin(cfg); err != nil {
		return err
	}
	if err := resolveVersion(ctx, streams, cfg); err != nil {
		return err
	}
	images, err := listImages(cfg, b)
	if err != nil {
		return err
	}
	if flags.output.json() {
		return writeJSON(streams.Out, struct {
			KubernetesVersion string        `json:"kubernetesVersion"`
			Images            []listedImage `json:"images"`
		}{cfg.Spec.KubernetesVersion, images})
	}
	for _, im := range images {
		if _, err := fmt.Fprintln(streams.Out, im.Image); err != nil {
			return err
		}
	}
	return nil
}

// listImages are the images of a document, or, where it was made from flags alone and there is a bundle, the bundle's, in
// the order of their references.
func listImages(cfg *config.Cluster, b *bundle.Bundle) ([]listedImage, error) {
	refs, err := config.ImagesOf(cfg)
	if err != nil {
		return nil, err
	}
	all := refs.All()
	digests := map[string]map[string]string{} // by name:tag, which is the same in every repository
	if b != nil {
		if !cfg.Described() {
			all = nil
		}
		for _, a := range b.Index.Artifacts {
			if a.Kind != bundle.KindImage || slices.Equal(a.Roles, []bundle.Role{bundle.RoleTest}) {
				continue
			}
			if !cfg.Described() {
				all = append(all, a.Image)
			}
			if digests[path.Base(a.Image)] == nil {
				digests[path.Base(a.Image)] = map[string]string{}
			}
			digests[path.Base(a.Image)][a.Arch] = a.Digest
		}
	}
	slices.Sort(all)
	images := []listedImage{} // a list that is empty, and not null
	for _, ref := range slices.Compact(all) {
		name, version, _ := strings.Cut(path.Base(ref), ":")
		images = append(images, listedImage{ref, name, version, digests[path.Base(ref)]})
	}
	return images, nil
}
