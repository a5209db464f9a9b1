package cmd

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/upgrade"
)

// upgradePlanFlags are upgrade plan's.
type upgradePlanFlags struct {
	upgradeTarget
	output   outputFlag
	force    bool
	exitCode bool
}

func newUpgradePlanCommand(streams Streams) *cobra.Command {
	var flags upgradePlanFlags
	cmd := &cobra.Command{
		Use:   "plan [VERSION]",
		Short: "Say what runs where, what an upgrade would change, and what stands in its way",
		Long: `Say what runs where, what an upgrade to a version would change, and what stands in its way. Nothing is changed.

The version is the argument's, or else the bundle's or the document's; without any, every version that the cluster can go
to is shown. What runs is what the programs themselves say, not what their manifests ask for.

Findings in the way would have the upgrade refused. Their names, in brackets, are what --ignore-preflight-errors of
upgrade apply takes.`,
		Example: `  myadm upgrade plan -f cluster.yaml --bundle kubernetes-v1.37.2.tar

  # every version that the cluster can go to
  myadm upgrade plan --host root@10.0.0.1 --host root@10.0.0.4

  # for a script: 4 is the exit code while there is something to do
  myadm upgrade plan v1.37.2 -f cluster.yaml -o json --exit-code`,
		Args: maxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runUpgradePlan(cmd.Context(), streams, flags, strings.Join(args, ""))
		},
	}
	flags.register(cmd)
	flags.output.register(cmd)
	f := cmd.Flags()
	flags.registerSource(f)
	f.BoolVar(&flags.force, "force", false, "go to an older patch release")
	f.BoolVar(&flags.exitCode, "exit-code", false, "end with 4 when there is something to do")
	return cmd
}

// upgradeOutlook is what upgrade plan tells.
type upgradeOutlook struct {
	Cluster   string          `json:"cluster"`
	From      string          `json:"from"`
	Reachable []string        `json:"reachable"`
	Plans     []*upgrade.Plan `json:"plans"` // of the version asked for, else of each that can be reached
}

func runUpgradePlan(ctx context.Context, streams Streams, flags upgradePlanFlags, version string) error {
	c, state, err := flags.survey(ctx, streams, version, true)
	if c != nil {
		defer c.Close()
	}
	if err != nil {
		return err
	}
	from := state.From()
	o := upgradeOutlook{Cluster: c.Config.Metadata.Name, From: from, Reachable: append([]string{}, upgrade.Reachable(from)...)}
	changes := 0
	for _, to := range wantedVersions(c, version, from) {
		target, err := upgrade.TargetOf(c, to, flags.force)
		if err != nil {
			return err
		}
		plan := upgrade.MakePlan(state, target)
		o.Plans = append(o.Plans, plan)
		changes += plan.Changes
	}
	if flags.output.json() {
		err = writeJSON(streams.Out, o)
	} else {
		err = flags.print(streams.Out, o)
	}
	if err == nil && flags.exitCode && changes > 0 {
		return errChanges
	}
	return err
}

// survey connects to the hosts and looks at the cluster. Hosts that do not answer are part of what it finds. compares says
// whether it is to tell what hosts lack, for which it fetches the one version that is wanted if the document names a mirror.
func (t *upgradeTarget) survey(ctx context.Context, streams Streams, version string, compares bool) (*cluster.Cluster, *upgrade.State, error) {
	if version != "" {
		if err := config.CheckWanted(version); err != nil {
			return nil, nil, usageError{err}
		}
	}
	c, from, _, err := t.connect(ctx, streams, version) // the plan names the hosts that were not reached
	if err != nil {
		return c, nil, err
	}
	if compares && c.Config.Spec.Artifacts.Mirror != "" && (version != "" || c.Config.Spec.KubernetesVersion != from) {
		release, err := t.provide(ctx, streams, c, 0, true)
		if err != nil {
			return c, nil, err
		}
		defer release() // the index stays
	}
	state, err := upgrade.Survey(ctx, c)
	return c, state, err
}

// wantedVersions are the versions to tell of: the one that argument, bundle or document name, else all that can be reached.
// A cluster at the end of the road is compared with the version that it has.
func wantedVersions(c *cluster.Cluster, argument, from string) []string {
	to := c.Config.Spec.KubernetesVersion
	reachable := upgrade.Reachable(from)
	if argument != "" || c.Bundle != nil || to != from || len(reachable) == 0 {
		return []string{to}
	}
	return reachable
}

// print writes an outlook for people.
func (f *upgradePlanFlags) print(out io.Writer, o upgradeOutlook) error {
	way := "No version that this myadm knows follows it."
	if len(o.Reachable) > 0 {
		way = "It can go to " + strings.Join(o.Reachable, " or ") + "."
	}
	fmt.Fprintf(out, "Cluster %s runs Kubernetes %s. %s\n", o.Cluster, orDash(o.From), way)
	for _, p := range o.Plans {
		if err := f.printPlan(out, p); err != nil {
			return err
		}
	}
	return nil
}

func (f *upgradePlanFlags) printPlan(out io.Writer, p *upgrade.Plan) error {
	fmt.Fprintf(out, "\nUpgrade to %s: %s\n\n", p.To, count(p.Changes, "change"))
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "COMPONENT\tWHERE\tRUNS\tBECOMES")
	for _, h := range p.Hosts {
		printItems(w, h.Name, h.Components)
	}
	printItems(w, "addon", p.Addons)
	printItems(w, "ConfigMap", p.Config)
	if err := w.Flush(); err != nil {
		return err
	}
	printOverwritten(out, p)
	printFindings(out, "In the way:", p.Fatal())
	printFindings(out, "Good to know:", slices.DeleteFunc(slices.Clone(p.Findings), func(f upgrade.Finding) bool { return f.Fatal }))
	var err error
	switch {
	case p.Changes == 0:
		_, err = fmt.Fprintln(out, "\nEverything runs this version.")
	case len(p.Fatal()) > 0:
		_, err = fmt.Fprintf(out, "\nNext, when nothing is in the way any more:\n  %s\n", f.next(p.To))
	default:
		_, err = fmt.Fprintf(out, "\nNext:\n  %s\n", f.next(p.To))
	}
	return err
}

func printItems(w io.Writer, where string, items []upgrade.Item) {
	for _, i := range items {
		becomes := "-"
		if i.Change {
			becomes = i.Want
			if i.Have == i.Want && i.HaveImage != i.WantImage {
				becomes = i.WantImage // the same version from elsewhere
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", i.Name, where, orDash(i.Have), becomes)
	}
}

// printOverwritten names the files that do not stay as they are.
func printOverwritten(out io.Writer, p *upgrade.Plan) {
	title := "\nOverwritten (of a static pod, only its image):\n"
	for _, h := range p.Hosts {
		var paths []string
		for _, i := range h.Components {
			if i.Change && i.Path != "" {
				paths = append(paths, i.Path)
			}
		}
		for _, path := range slices.Concat(h.Binaries, h.LoadBalancer) {
			if !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
		if len(paths) == 0 {
			continue
		}
		fmt.Fprint(out, title)
		title = ""
		fmt.Fprintf(out, "  %s: %s\n", h.Name, strings.Join(paths, ", "))
	}
	if len(p.Rights) > 0 {
		fmt.Fprintf(out, "\nCompleted (what is yours in them stays):\n  cluster: %s\n", strings.Join(p.Rights, ", "))
	}
}

func printFindings(out io.Writer, title string, list []upgrade.Finding) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(out, "\n%s\n", title)
	for _, f := range list {
		fmt.Fprintf(out, "  [%s] %s\n", f.Name, strings.ReplaceAll(f.String(), "; hint: ", "\n    hint: "))
	}
}

// next is the command line that makes the upgrade.
func (t *upgradeTarget) next(version string) string {
	words := []string{"myadm upgrade apply", version}
	if t.file != "" {
		words = append(words, "-f", t.file)
	}
	for _, h := range t.hosts {
		words = append(words, "--host", h)
	}
	for _, flag := range []struct{ name, value string }{
		{"--bundle", t.bundle}, {"--mirror", t.mirror}, {"--mirror-ca-file", t.mirrorCA}, {"--registry-config", t.mirrorLogin},
	} {
		if flag.value != "" {
			words = append(words, flag.name, flag.value)
		}
	}
	return strings.Join(words, " ")
}
