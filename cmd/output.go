package cmd

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// outputFlag is -o: how a command's result is written.
type outputFlag struct{ format string }

func (o *outputFlag) register(cmd *cobra.Command) {
	cmd.Flags().VarP(o, "output", "o", "how the result is written: text or json")
}

func (o *outputFlag) json() bool { return o.format == "json" }

// String implements pflag.Value.
func (o *outputFlag) String() string {
	if o.format == "" {
		return "text"
	}
	return o.format
}

// Set implements pflag.Value.
func (o *outputFlag) Set(s string) error {
	if s != "text" && s != "json" {
		return fmt.Errorf("it is text or json")
	}
	o.format = s
	return nil
}

// Type implements pflag.Value.
func (o *outputFlag) Type() string { return "format" }

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
