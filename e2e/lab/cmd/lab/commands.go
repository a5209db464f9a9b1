package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/myadm/myadm/e2e/lab"
)

func newCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "lab",
		Short:         "Make hosts on this machine to try myadm on",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(
		newUpCommand(),
		newDownCommand(),
		newHostCommand("kill", "Power a host off, without a warning", (*lab.Lab).Kill),
		newHostCommand("start", "Power a host on and wait until it takes logins", (*lab.Lab).Start),
		newHostCommand("wipe", "Replace a host by a bare one of the same name and address, which is off", (*lab.Lab).Wipe),
		newHostCommand("cut", "Cut a host from the network, as if its cable were pulled", (*lab.Lab).Cut),
		newHostCommand("heal", "Return a host to the network", (*lab.Lab).Heal),
		newExecCommand(),
		newCopyCommand(),
		newBundleCommand(),
		newMirrorCommand(),
		newLinkCommand(),
	)
	return cmd
}

// dirFlag gives a command the flag that every command on a lab needs.
func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "", "folder of the lab")
	if err := cmd.MarkFlagRequired("dir"); err != nil {
		panic(err) // the flag is defined one line above
	}
}

func newUpCommand() *cobra.Command {
	var options lab.Options
	var users []string
	cmd := &cobra.Command{
		Use:   "up --hosts N --dir DIR",
		Short: "Make N hosts with systemd and sshd, and a Cluster document that names them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if options.User, options.HostUsers, err = parseUsers(users); err != nil {
				return err
			}
			options.Log = cmd.ErrOrStderr()
			return runUp(cmd.Context(), options)
		},
	}
	dirFlag(cmd, &options.Dir)
	cmd.Flags().IntVar(&options.Hosts, "hosts", 1, "number of hosts")
	cmd.Flags().IntVar(&options.ControlPlanes, "control-planes", 1, "how many of them, from the first, are control planes")
	cmd.Flags().StringVar(&options.KubernetesVersion, "kubernetes-version", lab.DefaultKubernetesVersion, "version in the Cluster document")
	cmd.Flags().StringArrayVar(&users, "user", nil,
		"`USER` or HOST=USER to log in as in the Cluster document: root, ops (sudo), ops-pw (sudo with a password); repeatable")
	return cmd
}

func runUp(ctx context.Context, options lab.Options) error {
	l, err := lab.Up(ctx, options)
	if err != nil {
		return err
	}
	for _, h := range l.Hosts {
		fmt.Fprintf(options.Log, "%s  %s  %s\n", h.Name, h.Address, h.Role)
	}
	fmt.Fprintf(options.Log, "log in with: ssh -F %s %s\n", l.Path(lab.SSHConfig), l.Hosts[0].Name)
	_, err = fmt.Println(l.Path(lab.ClusterFile))
	return err
}

// parseUsers reads the values of --user: a user for all hosts, or HOST=USER for one.
func parseUsers(values []string) (all string, single map[string]string, err error) {
	single = map[string]string{}
	for _, v := range values {
		host, user, isSingle := strings.Cut(v, "=")
		switch {
		case isSingle && host != "" && user != "":
			single[host] = user
		case !isSingle && all == "":
			all = v
		default:
			return "", nil, fmt.Errorf("--user %s: want one USER, and HOST=USER for single hosts", v)
		}
	}
	return all, single, nil
}

func newDownCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "down --dir DIR",
		Short: "Remove the hosts with all that is on them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return lab.Down(cmd.Context(), dir, cmd.ErrOrStderr())
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

// newHostCommand is a command that does one thing to one host.
func newHostCommand(name, short string, do func(*lab.Lab, context.Context, string) error) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   name + " HOST --dir DIR",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(cmd.Context(), dir)
			if err != nil {
				return err
			}
			return do(l, cmd.Context(), args[0])
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

func newExecCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "exec HOST --dir DIR -- COMMAND...",
		Short: "Run a command as root on a host, as if at its console",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(cmd.Context(), dir)
			if err != nil {
				return err
			}
			streams := lab.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
			streams.TTY = term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd()))
			return asRemote(l.Exec(cmd.Context(), args[0], streams, args[1:]...))
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

func newCopyCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "cp HOST SOURCE TARGET --dir DIR",
		Short: "Copy a file or folder to an absolute path on a host",
		Args:  cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(cmd.Context(), dir)
			if err != nil {
				return err
			}
			return l.Copy(cmd.Context(), args[0], args[1], args[2])
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}
