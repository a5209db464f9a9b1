package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/e2e/lab"
	"github.com/myadm/myadm/e2e/lab/mirror"
)

func newMirrorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mirror",
		Short: "Serve the hosts what upstream would: releases and images, from bundles",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(
		newMirrorUpCommand(),
		newMirrorDownCommand(),
		newMirrorStatsCommand(),
		newMirrorFaultCommand(),
		newMirrorServeCommand(),
	)
	return cmd
}

func newMirrorUpCommand() *cobra.Command {
	var dir string
	var as, labels []string
	var options lab.MirrorOptions
	cmd := &cobra.Command{
		Use:   "up --bundle PATH --dir DIR",
		Short: "Start a mirror that the hosts reach, and print its URL",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if options.As, err = parsePairs("as", as); err != nil {
				return err
			}
			chosen, err := parsePairs("label", labels)
			if err != nil {
				return err
			}
			options.Labels = map[string]string{}
			for label, versions := range chosen {
				options.Labels[label] = versions[len(versions)-1]
			}
			return runMirrorUp(cmd.Context(), dir, options, cmd.ErrOrStderr())
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().StringArrayVar(&options.Bundles, "bundle", nil, "folder or tar file to fill it from; repeatable")
	cmd.Flags().StringVar(&options.Listen, "listen", "", "`ADDRESS:PORT` (default port 5000 of the machine's address on the lab's network)")
	cmd.Flags().StringVar(&options.Prefix, "prefix", "", "path in front of all others")
	cmd.Flags().BoolVar(&options.TLS, "tls", false, "serve HTTPS with a certificate of the lab's own CA")
	cmd.Flags().BoolVar(&options.Auth, "auth", false, "ask for a password, which is made up and written to a config.json of Docker's")
	cmd.Flags().StringArrayVar(&as, "as", nil, "`PRODUCT=VERSION`: a further release as which a product is served, as runc=v1.4.0; repeatable")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "`LABEL=VERSION`: what a label names instead of the newest, as stable=v1.36.3; repeatable")
	if err := cmd.MarkFlagRequired("bundle"); err != nil {
		panic(err) // the flag is defined a few lines above
	}
	return cmd
}

// parsePairs reads the values of a flag that has KEY=VALUE several times.
func parsePairs(flag string, values []string) (map[string][]string, error) {
	pairs := map[string][]string{}
	for _, v := range values {
		key, value, ok := strings.Cut(v, "=")
		if !ok || key == "" || value == "" {
			return nil, fmt.Errorf("--%s %s: want KEY=VALUE", flag, v)
		}
		pairs[key] = append(pairs[key], value)
	}
	return pairs, nil
}

func runMirrorUp(ctx context.Context, dir string, options lab.MirrorOptions, log io.Writer) error {
	l, err := lab.Open(ctx, dir)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s, err := l.StartMirror(ctx, options, self, "mirror", "serve")
	if err != nil {
		return err
	}
	if s.CAFile != "" {
		fmt.Fprintf(log, "its CA: %s\n", s.CAFile)
	}
	if s.Password != "" {
		fmt.Fprintf(log, "its password: DOCKER_CONFIG=%s\n", l.Path(lab.MirrorDir))
	}
	fmt.Fprintf(log, "to see and to break what it serves: lab mirror stats, lab mirror fault\n")
	_, err = fmt.Println(s.URL)
	return err
}

// newMirrorServeCommand is the process that newMirrorUpCommand starts.
func newMirrorServeCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "serve FOLDER",
		Short:  "Serve as the options in a mirror's folder say",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE:   func(cmd *cobra.Command, args []string) error { return mirror.Serve(cmd.Context(), args[0]) },
	}
}

func newMirrorDownCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "down --dir DIR",
		Short: "End the mirror, as if it had died",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return lab.StopMirror(cmd.Context(), dir) },
	}
	dirFlag(cmd, &dir)
	return cmd
}

func newMirrorStatsCommand() *cobra.Command {
	var dir string
	var asJSON, reset bool
	cmd := &cobra.Command{
		Use:   "stats --dir DIR",
		Short: "Print what the mirror has served, by client and by path",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runMirrorStats(cmd.Context(), cmd.OutOrStdout(), dir, asJSON, reset)
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with a log of all requests")
	cmd.Flags().BoolVar(&reset, "reset", false, "count anew afterwards")
	return cmd
}

func runMirrorStats(ctx context.Context, out io.Writer, dir string, asJSON, reset bool) error {
	s, err := lab.MirrorOf(dir)
	if err != nil {
		return err
	}
	admin := mirror.Admin{URL: s.AdminURL}
	stats, err := admin.Stats(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		err = json.NewEncoder(out).Encode(stats)
	} else {
		err = printStats(out, stats)
	}
	if err != nil || !reset {
		return err
	}
	return admin.ResetStats(ctx)
}

func printStats(out io.Writer, s mirror.Stats) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(name string, c mirror.Count) { fmt.Fprintf(table, "%d\t%d\t  %s\n", c.Requests, c.Bytes, name) }
	fmt.Fprintln(table, "REQUESTS\tBYTES\t")
	line("all", s.Total)
	for _, counts := range []map[string]mirror.Count{s.Clients, s.Paths} {
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			line(name, counts[name])
		}
	}
	return table.Flush()
}

func newMirrorFaultCommand() *cobra.Command {
	var dir string
	var heal bool
	var fault mirror.Fault
	cmd := &cobra.Command{
		Use:   "fault [KIND PATH] --dir DIR",
		Short: "Make the mirror serve a path wrongly, or list what is wrong",
		Long: `Make the mirror serve a path wrongly, or list what is wrong.

PATH is a glob of the URL's path, in which ** also stands for slashes: '**/kubelet'. The first fault that a request meets
counts. KIND is one of ` + kindNames() + `.`,
		Args: func(_ *cobra.Command, args []string) error {
			if heal && len(args) > 0 || !heal && len(args) != 0 && len(args) != 2 {
				return errors.New("want KIND and PATH, or neither, or --heal alone")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := lab.MirrorOf(dir)
			if err != nil {
				return err
			}
			admin := mirror.Admin{URL: s.AdminURL}
			switch {
			case heal:
				return admin.Heal(cmd.Context())
			case len(args) == 0:
				return runMirrorFaults(cmd.Context(), cmd.OutOrStdout(), admin)
			}
			fault.Kind, fault.Path = mirror.Kind(args[0]), args[1]
			return admin.Fail(cmd.Context(), fault)
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().BoolVar(&heal, "heal", false, "end all faults")
	cmd.Flags().StringVar(&fault.Client, "client", "", "glob of the clients' `ADDRESS` (default all)")
	cmd.Flags().Int64Var(&fault.After, "after", 0, "`BYTES` that still come, for truncated, stall and die")
	cmd.Flags().IntVar(&fault.Times, "times", 0, "how many requests it lasts for (default until --heal)")
	return cmd
}

func kindNames() string {
	var names []string
	for _, k := range mirror.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

func runMirrorFaults(ctx context.Context, out io.Writer, admin mirror.Admin) error {
	all, err := admin.Faults(ctx)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	for _, f := range all {
		if err := encoder.Encode(f); err != nil {
			return err
		}
	}
	return nil
}
