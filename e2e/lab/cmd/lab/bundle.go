package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/e2e/lab"
	"github.com/myadm/myadm/e2e/lab/build"
)

func newBundleCommand() *cobra.Command {
	var options build.Options
	cmd := &cobra.Command{
		Use:   "bundle --kubernetes-version VERSION",
		Short: "Build a bundle of a Kubernetes version from source and print its path",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options.Out = cmd.ErrOrStderr()
			return runBundle(cmd.Context(), options)
		},
	}
	cmd.Flags().StringVar(&options.KubernetesVersion, "kubernetes-version", lab.DefaultKubernetesVersion, "version to build")
	cmd.Flags().StringVar(&options.Arch, "arch", "", "architecture of the hosts, as Go names it (default this machine's)")
	cmd.Flags().StringVar(&options.ComponentsDir, "components", "", "folder with the modules to build (default e2e/components of this source tree)")
	return cmd
}

func runBundle(ctx context.Context, options build.Options) error {
	var err error
	if options.CacheDir, err = lab.CacheDir(); err != nil {
		return err
	}
	if options.ComponentsDir == "" {
		if options.ComponentsDir, err = findComponents(); err != nil {
			return err
		}
	}
	path, err := build.Bundle(ctx, options)
	if err != nil {
		return err
	}
	_, err = fmt.Println(path)
	return err
}

// findComponents looks for e2e/components here and in the folders above.
func findComponents() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		components := filepath.Join(dir, "e2e", "components")
		if info, err := os.Stat(components); err == nil && info.IsDir() {
			return components, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no e2e/components here or above; hint: run lab bundle in myadm's source tree, or give --components")
		}
		dir = parent
	}
}
