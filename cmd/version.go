package cmd

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/config"
)

// Version is myadm's own; the Makefile links it in.
var Version = "dev"

func newVersionCommand(streams Streams) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version and the Kubernetes versions that are known",
		Example: `  myadm version
  myadm version -o json`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return runVersion(streams, output) },
	}
	output.register(cmd)
	return cmd
}

func runVersion(streams Streams, output outputFlag) error {
	info := struct {
		Version    string   `json:"version"`
		Go         string   `json:"go"`
		Platform   string   `json:"platform"`
		Kubernetes []string `json:"kubernetes"` // minor versions
	}{Version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, config.Supported()}
	if output.json() {
		return writeJSON(streams.Out, info)
	}
	_, err := fmt.Fprintf(streams.Out, "myadm %s (%s, %s), for Kubernetes %v\n", info.Version, info.Go, info.Platform, info.Kubernetes)
	return err
}
