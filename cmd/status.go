package cmd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/status"
)

func newStatusCommand(streams Streams) *cobra.Command {
	var t target
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell how a cluster is: nodes, control planes, etcd, certificates, endpoint",
		Long: `Tell how a cluster is: its nodes, the health of each control plane's components, etcd's members, how long certificates
serve, and whether the API answers every host at the endpoint.

Everything is asked at the same time, and each host over its own connection: a host that is down is told as such, and
keeps nobody from telling the rest. Nothing is changed.

It warns of what is wrong, and of what is about to be: a certificate that ends within 30 days, and an etcd that one more
failure would stop. The exit code is 0 when there is no warning, else 1.`,
		Example: `  # all hosts of a document
  myadm status -f cluster.yaml

  # what one control plane knows
  myadm status --host root@10.0.0.1

  # on a control plane itself, for a script
  myadm status -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runStatus(cmd.Context(), streams, t, output) },
	}
	t.register(cmd)
	output.register(cmd)
	hurry(cmd)
	return cmd
}

// statusConnectTimeout is shorter than that of commands which need every host: to be down is an answer, too.
const statusConnectTimeout = 3 * time.Second

func hurry(cmd *cobra.Command) {
	f := cmd.Flags().Lookup("connect-timeout")
	f.DefValue = statusConnectTimeout.String()
	if err := f.Value.Set(f.DefValue); err != nil {
		panic(err) // it is a duration
	}
}

func runStatus(ctx context.Context, streams Streams, t target, output outputFlag) error {
	cfg, err := t.loadRunning(config.RoleControlPlane)
	if err != nil {
		return err
	}
	config.SetDefaults(cfg)
	if err := config.Validate(cfg); err != nil {
		return err
	}
	c, unreached := t.open(ctx, cfg, nil, streams)
	defer c.Close() //nolint:staticcheck // there is a cluster also when hosts are missing in it
	if len(c.Missing) > 0 && c.Missing[0].Spec.Address == "" {
		return unreached // this machine
	}
	r, err := status.Gather(ctx, c)
	if err != nil {
		return err
	}
	if output.json() {
		err = writeJSON(streams.Out, r)
	} else {
		err = printStatus(streams.Out, r)
	}
	if err != nil || r.Healthy {
		return err
	}
	return fmt.Errorf("the cluster is not well: %s", count(len(r.Warnings), "warning"))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// printStatus writes a report for people.
func printStatus(out io.Writer, r *status.Report) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "Cluster %s\n", strings.Join(slices.DeleteFunc([]string{r.Name, r.KubernetesVersion}, isEmpty), ", Kubernetes "))
	fmt.Fprintf(w, "Endpoint %s\n", endpointLine(r.Endpoint))
	for _, part := range []func(io.Writer, *status.Report){printNodes, printControlPlanes, printMembers, printWarnings} {
		fmt.Fprintln(w)
		part(w, r)
		if err := w.Flush(); err != nil { // the next one has columns of its own
			return err
		}
	}
	return nil
}

func isEmpty(s string) bool { return s == "" }

// endpointLine is the endpoint in a line: where it is, what stands there, and whom it answers.
func endpointLine(e status.Endpoint) string {
	line := orDash(e.Address)
	if e.NodeAddress != e.Address {
		line += ", on nodes " + orDash(e.NodeAddress)
	}
	kind := "no load balancer"
	if e.LoadBalancer != "none" {
		kind = e.LoadBalancer + " load balancer"
	}
	if len(e.Answers) == 0 {
		return fmt.Sprintf("%s (%s): not asked", line, kind)
	}
	ok := 0
	for _, a := range e.Answers {
		if a.OK {
			ok++
		}
	}
	return fmt.Sprintf("%s (%s): answers on %d of %s", line, kind, ok, count(len(e.Answers), "host"))
}

func printNodes(w io.Writer, r *status.Report) {
	fmt.Fprintln(w, "NODE\tSTATUS\tROLES\tKUBELET\tADDRESS")
	for _, n := range r.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", n.Name, nodeState(n, r.APIError != ""), strings.Join(n.Roles, ","), orDash(n.KubeletVersion), orDash(n.Address))
	}
}

func nodeState(n status.Node, unknown bool) string {
	state := "not Ready"
	switch {
	case unknown:
		return "unknown"
	case !n.Registered:
		return "no node"
	case n.Ready:
		state = "Ready"
	}
	if n.Unschedulable {
		state += ", cordoned"
	}
	return state
}

// componentColumns are the headings of a control plane's components.
var componentColumns = []struct{ name, heading string }{
	{manifests.EtcdName, "ETCD"},
	{manifests.APIServerName, "API SERVER"},
	{manifests.ControllerManagerName, "CONTROLLER MANAGER"},
	{manifests.SchedulerName, "SCHEDULER"},
}

func printControlPlanes(w io.Writer, r *status.Report) {
	fmt.Fprint(w, "CONTROL PLANE")
	for _, c := range componentColumns {
		fmt.Fprint(w, "\t", c.heading)
	}
	fmt.Fprintln(w, "\tVERSION\tCERTIFICATES UNTIL")
	for _, p := range r.ControlPlanes {
		fmt.Fprint(w, p.Name)
		version := ""
		for _, column := range componentColumns {
			state := "-"
			for _, c := range p.Components {
				if c.Name != column.name {
					continue
				}
				state = "ok"
				if !c.Healthy {
					state = "not ok"
				}
				if c.Name == manifests.APIServerName {
					version = c.Version
				}
			}
			fmt.Fprint(w, "\t", state)
		}
		until := "-"
		if first, ok := p.Soonest(); ok {
			until = fmt.Sprintf("%s (%s)", first.Expires.UTC().Format(time.DateOnly), first.Name)
		}
		fmt.Fprintf(w, "\t%s\t%s\n", orDash(version), until)
	}
	for _, h := range r.Missing {
		if h.ControlPlane {
			fmt.Fprintf(w, "%s\tnot reached\n", h.Name)
		}
	}
}

func printMembers(w io.Writer, r *status.Report) {
	fmt.Fprintln(w, "ETCD MEMBER\tROLE\tVERSION\tDB SIZE\tLAG\tHEALTH")
	for _, m := range r.Etcd.Members {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", cmp.Or(m.Name, m.ID), m.Role, orDash(m.Version), dbSize(m), lag(m), m.Health)
	}
	switch {
	case len(r.Etcd.Members) == 0:
		fmt.Fprintln(w, "unknown")
	case !r.Etcd.Quorum:
		fmt.Fprintln(w, "There is no quorum.")
	case r.Etcd.FaultTolerance == 0:
		fmt.Fprintln(w, "There is a quorum, with no member to spare.")
	default:
		fmt.Fprintf(w, "There is a quorum, with %s to spare.\n", count(r.Etcd.FaultTolerance, "member"))
	}
}

func printWarnings(w io.Writer, r *status.Report) {
	if len(r.Warnings) == 0 {
		fmt.Fprintln(w, "All is well.")
		return
	}
	fmt.Fprintln(w, "Warnings:")
	for _, warning := range r.Warnings {
		fmt.Fprintf(w, "  %s: %s\n", warning.Object, warning.Message)
		if warning.Hint != "" {
			fmt.Fprintf(w, "    hint: %s\n", warning.Hint)
		}
	}
}
