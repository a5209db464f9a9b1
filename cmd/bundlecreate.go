package cmd

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/fetch"
	"github.com/myadm/myadm/release"
	"github.com/myadm/myadm/signature"
)

// bundleCreateFlags are those of bundle create.
type bundleCreateFlags struct {
	output                                   outputFlag
	version, mirror, caFile, cacheDir, login string
	archs, roles                             []string
	signatures                               config.Signatures
	verbose                                  bool
}

func newBundleCreateCommand(streams Streams) *cobra.Command {
	var flags bundleCreateFlags
	cmd := &cobra.Command{
		Use:   "create [PATH]",
		Short: "Fetch what hosts need for a Kubernetes version into a bundle",
		Long: `Fetch what hosts need for a Kubernetes version into a bundle: one tar file where PATH ends in .tar, else a folder.

Binaries and images come from their makers, or from a mirror, and are verified: by their checksums, and with
--signature-roots by the signatures that the makers of Kubernetes publish. What was fetched stays in a cache, so
that an interrupted run goes on where it ended and the next version brings only what is new.`,
		Example: `  # the newest release, for hosts of both architectures
  myadm bundle create --kubernetes-version stable --arch amd64,arm64

  # from a mirror, into a file, for workers alone
  myadm bundle create --kubernetes-version v1.37.2 --roles node,runtime,cni --mirror https://mirror.example/k8s --ca-file ca.pem workers.tar`,
		Args: maxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := ""
			if len(args) > 0 {
				path = args[0]
			}
			return runBundleCreate(cmd.Context(), streams, path, flags)
		},
	}
	flags.output.register(cmd)
	arch := runtime.GOARCH
	if !slices.Contains(release.Architectures(), arch) {
		arch = release.Architectures()[0]
	}
	f := cmd.Flags()
	f.StringVar(&flags.version, "kubernetes-version", config.Newest, "`version`, or a label: stable, stable-1.37, latest-1.37")
	f.StringSliceVar(&flags.archs, "arch", []string{arch}, "architectures of the hosts: amd64, arm64")
	f.StringSliceVar(&flags.roles, "roles", nil, "what hosts are for: node, control-plane, runtime, cni, network:flannel, load-balancer (default all)")
	f.StringVar(&flags.mirror, "mirror", "", "`URL` of a mirror to fetch from instead of the makers' servers")
	f.StringVar(&flags.caFile, "ca-file", "", "PEM `file` of certificate authorities to trust besides the system's")
	f.StringVar(&flags.cacheDir, "cache-dir", "", "`folder` of the cache (default myadm in the user's folder for caches)")
	f.StringVar(&flags.login, "registry-config", "", "`file` with credentials in the form of docker's config.json (default docker's own)")
	f.StringVar(&flags.signatures.Roots, "signature-roots", "", "`file` that says whose signatures to believe: sigstore's trusted_root.json, or PEM; see docs/signatures.md")
	f.StringVar(&flags.signatures.Identity, "signature-identity", "", "`address` of who signs (default who signs the releases of Kubernetes)")
	f.StringVar(&flags.signatures.Issuer, "signature-issuer", "", "`URL` of who vouches for the signer (default likewise)")
	f.BoolVar(&flags.signatures.Required, "verify-signatures", false, "refuse what its makers sign when its signature is missing; wrong signatures are refused always")
	f.BoolVarP(&flags.verbose, "verbose", "v", false, "tell more")
	return cmd
}

func runBundleCreate(ctx context.Context, streams Streams, path string, flags bundleCreateFlags) error {
	var roles []bundle.Role
	for _, role := range flags.roles {
		if !slices.Contains(release.Roles(), bundle.Role(role)) {
			return usageError{fmt.Errorf("--roles: there is no role %q; hint: there are %v", role, release.Roles())}
		}
		roles = append(roles, bundle.Role(role))
	}
	for _, arch := range flags.archs {
		if !slices.Contains(release.Architectures(), arch) {
			return usageError{fmt.Errorf("--arch: nothing is released for %q; hint: there are %v", arch, release.Architectures())}
		}
	}
	if err := config.CheckWanted(flags.version); err != nil {
		return usageError{fmt.Errorf("--kubernetes-version: %w", err)}
	}
	options, err := fetchOptions(config.Artifacts{Mirror: flags.mirror, CAFile: flags.caFile, CredentialsFile: flags.login})
	if err != nil {
		return err
	}
	options.CacheDir = flags.cacheDir
	if flags.signatures != (config.Signatures{}) && flags.signatures.Roots == "" {
		return usageError{fmt.Errorf("--signature-roots: it is not said whose signatures to believe; hint: it names a file; %s", signature.HintRoots)}
	}
	if options.Signatures, err = signaturesOf(flags.signatures); err != nil {
		return err
	}
	report, closeView := newView(streams, flags.verbose)
	options.Progress = newFetchView(report).tell
	f, err := fetch.New(ctx, options)
	if err != nil {
		closeView()
		return err
	}
	defer f.Close()
	version, err := writeBundle(ctx, f, &path, roles, flags)
	closeView()
	if err != nil {
		return err
	}
	verified := proofsOf(f.Verified())
	if flags.output.json() {
		return writeJSON(streams.Out, struct {
			KubernetesVersion string `json:"kubernetesVersion"`
			Path              string `json:"path"`
			Verified          proofs `json:"verified,omitzero"`
		}{version, path, verified})
	}
	_, err = fmt.Fprintf(streams.Out, "Kubernetes %s: %s\n", version, path)
	verified.print(streams.Out)
	return err
}

// writeBundle makes the bundle. Without a path it gets one by its version.
func writeBundle(ctx context.Context, f *fetch.Fetcher, path *string, roles []bundle.Role, flags bundleCreateFlags) (string, error) {
	version, err := f.Resolve(ctx, flags.version)
	if err != nil {
		return "", err
	}
	if _, err := config.VersionsOf(version); err != nil {
		return "", err
	}
	if *path == "" {
		*path = "kubernetes-" + version + ".tar"
	}
	w, err := bundle.Create(*path, version)
	if err != nil {
		return "", err
	}
	archs := slices.Compact(slices.Sorted(slices.Values(flags.archs)))
	if err := f.Bundle(ctx, version, archs, roles, w); err != nil {
		return "", errors.Join(err, w.Discard())
	}
	return version, w.Close()
}
