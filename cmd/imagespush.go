package cmd

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/push"
	"github.com/myadm/myadm/workflow"
)

// imagesPushFlags are those of images push.
type imagesPushFlags struct {
	output                outputFlag
	bundle, caFile, login string
	verbose               bool
}

func newImagesPushCommand(streams Streams) *cobra.Command {
	var flags imagesPushFlags
	cmd := &cobra.Command{
		Use:   "push --bundle BUNDLE REGISTRY[/PREFIX]",
		Short: "Put the images of a bundle into a registry",
		Long: `Put the images of a bundle into a registry, side by side: REGISTRY/PREFIX/coredns, REGISTRY/PREFIX/flannel, and so on. A
cluster whose document has imageRepository: REGISTRY/PREFIX pulls them from there.

They keep their digests. An image that the bundle has for several architectures becomes an index of them. What the registry
has already is not sent again, so an interrupted run goes on where it ended. A tag that stands for something else is moved.

The registry speaks TLS, unless http:// stands before its name. Who may push is docker's to say (docker login), or the
file's of --registry-config. HTTP_PROXY, HTTPS_PROXY and NO_PROXY count.`,
		Example: `  myadm images push --bundle kubernetes-v1.37.2.tar registry.example.org/k8s

  # with a certificate authority and credentials of its own
  myadm images push --bundle kubernetes-v1.37.2.tar --ca-file ca.pem --registry-config login.json registry.example.org:5000/k8s`,
		Args: asUsage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runImagesPush(cmd.Context(), streams, args[0], flags)
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.bundle, "bundle", "", "bundle whose images are pushed: a folder or a file")
	f.StringVar(&flags.caFile, "ca-file", "", "PEM `file` of certificate authorities of the registry besides the system's")
	f.StringVar(&flags.login, "registry-config", "", "`file` with credentials of the registry in the form of docker's config.json (default docker's own)")
	f.BoolVarP(&flags.verbose, "verbose", "v", false, "tell more")
	flags.output.register(cmd)
	return cmd
}

func runImagesPush(ctx context.Context, streams Streams, registry string, flags imagesPushFlags) error {
	if flags.bundle == "" {
		return usageError{errors.New("there is no bundle to push the images of; hint: --bundle PATH, as `myadm bundle create` makes one")}
	}
	to, err := push.ParseTarget(registry)
	if err != nil {
		return usageError{err}
	}
	known, err := fetchOptions(config.Artifacts{CAFile: flags.caFile, CredentialsFile: flags.login})
	if err != nil {
		return err
	}
	b, err := bundle.Open(flags.bundle)
	if err != nil {
		return err
	}
	defer b.Close()
	results, err := pushImages(ctx, streams, b, to, flags.verbose, push.Options{CAFile: known.CAFile, Keychain: known.Keychain})
	if ctx.Err() != nil {
		return errors.New("stopped; hint: run the same command again to carry on")
	}
	if err != nil {
		return err
	}
	return flags.tell(streams, b, to, results)
}

// pushImages pushes and tells how far it has come.
func pushImages(ctx context.Context, streams Streams, b *bundle.Bundle, to push.Target, verbose bool, o push.Options) ([]push.Result, error) {
	report, closeView := newView(streams, verbose)
	defer closeView()
	view := newWorkView(report, "push", "sent", len(push.Images(b, to)))
	defer view.end()
	o.Progress = func(e push.Event) {
		image := path.Base(e.Image)
		switch {
		case e.Result == nil:
			view.progress(image, e.Done, e.Total)
		case e.Result.Pushed:
			view.ended(image, workflow.Change{Action: workflow.Create, Object: "image " + e.Image})
		default:
			view.ended(image)
		}
	}
	return push.To(ctx, b, to, o)
}

func (f *imagesPushFlags) tell(streams Streams, b *bundle.Bundle, to push.Target, results []push.Result) error {
	pushed, bytes := 0, int64(0)
	for _, r := range results {
		if r.Pushed {
			pushed++
		}
		bytes += r.Bytes
	}
	if f.output.json() {
		return writeJSON(streams.Out, struct {
			KubernetesVersion string        `json:"kubernetesVersion"`
			ImageRepository   string        `json:"imageRepository"`
			Pushed            int           `json:"pushed"`
			WereThere         int           `json:"wereThere"`
			Bytes             int64         `json:"bytes"`
			Images            []push.Result `json:"images"`
		}{b.Index.KubernetesVersion, to.Repository(), pushed, len(results) - pushed, bytes, append([]push.Result{}, results...)})
	}
	_, err := fmt.Fprintf(streams.Out, "%s of Kubernetes %s in %s: %d pushed (%s), %d were there.\n",
		count(len(results), "image"), b.Index.KubernetesVersion, to.Repository(), pushed, formatBytes(bytes), len(results)-pushed)
	if err == nil && pushed > 0 {
		_, err = fmt.Fprintf(streams.Out, "\nUse them in a Cluster document:\n  spec: {imageRepository: %s}\n", to.Repository())
	}
	return err
}
