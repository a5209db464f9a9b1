package cmd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/workflow"
)

func newTokenCommand(streams Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and delete the tokens that hosts join with",
		Long: `Make, list and delete the tokens that hosts join with.

The cluster is reached through its control plane: that of the document, the one of --host, or this machine.`,
	}
	cmd.AddCommand(newTokenCreateCommand(streams), newTokenListCommand(streams), newTokenDeleteCommand(streams))
	return group(cmd)
}

// tokenFlags are those of token create.
type tokenFlags struct {
	target
	output       outputFlag
	token        string
	ttl          time.Duration
	usages       []string
	groups       []string
	description  string
	printCommand bool
}

func newTokenCreateCommand(streams Streams) *cobra.Command {
	var flags tokenFlags
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token and print it",
		Example: `  # the command with which a host joins
  myadm token create --print-join-command -f cluster.yaml

  # for scripts
  myadm token create --ttl 1h --description ci -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runTokenCreate(cmd.Context(), streams, flags) },
	}
	keepLog(cmd)
	flags.register(cmd)
	flags.output.register(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.token, "token", "", "the `token` itself, ID.SECRET (default a random one)")
	f.DurationVar(&flags.ttl, "ttl", kube.DefaultTokenTTL, "life of the token; 0 for one that never expires")
	f.StringSliceVar(&flags.usages, "usages", kube.DefaultTokenUsages(), "what it may be used for: signing, authentication")
	f.StringSliceVar(&flags.groups, "groups", []string{kube.DefaultTokenGroup}, "groups of who logs in with it")
	f.StringVar(&flags.description, "description", "", "what it is for, in words")
	f.BoolVar(&flags.printCommand, "print-join-command", false, "print the command with which a host joins instead of the token")
	return cmd
}

func runTokenCreate(ctx context.Context, streams Streams, flags tokenFlags) error {
	token, err := flags.newToken()
	if err != nil {
		return err
	}
	streams.journal.hide(token.Reveal())
	spec := kube.TokenSpec{Token: token, TTL: flags.ttl, Usages: flags.usages, Groups: flags.groups, Description: flags.description}
	if err := spec.Validate(); err != nil {
		return usageError{err}
	}
	c, client, err := flags.connect(ctx, streams)
	if err != nil {
		return err
	}
	defer c.Close()
	join, err := joinCommand(ctx, c, c.Nodes[0], token)
	if err != nil {
		return err
	}
	if err := client.CreateToken(ctx, spec, c.Now()); err != nil {
		return err
	}
	streams.journal.changed(workflow.Create, "bootstrap token "+token.ID)
	switch {
	case flags.output.json():
		return writeJSON(streams.Out, struct {
			Token       string     `json:"token"`
			Expires     *time.Time `json:"expires,omitempty"`
			JoinCommand string     `json:"joinCommand"`
		}{token.Reveal(), expiry(spec, c.Now()), join})
	case flags.printCommand:
		fmt.Fprintln(streams.Out, join)
	default:
		fmt.Fprintln(streams.Out, token.Reveal())
	}
	return nil
}

func (f *tokenFlags) newToken() (kube.Token, error) {
	if f.token == "" {
		return kube.NewToken(rand.Reader)
	}
	token, err := kube.ParseToken(f.token)
	if err != nil {
		return kube.Token{}, usageError{fmt.Errorf("--token: %w", err)}
	}
	return token, nil
}

func expiry(spec kube.TokenSpec, now time.Time) *time.Time {
	if spec.TTL == 0 {
		return nil
	}
	at := now.Add(spec.TTL).UTC().Truncate(time.Second)
	return &at
}

func newTokenListCommand(streams Streams) *cobra.Command {
	var t target
	var output outputFlag
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the tokens, without their secrets",
		Example: "  myadm token list -f cluster.yaml",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runTokenList(cmd.Context(), streams, t, output) },
	}
	t.register(cmd)
	output.register(cmd)
	return cmd
}

// tokenLine is a token in the list. The secret is not shown: who needs one makes a new one.
type tokenLine struct {
	ID          string     `json:"id"`
	Expires     *time.Time `json:"expires,omitempty"`
	Usages      []string   `json:"usages"`
	Groups      []string   `json:"groups,omitempty"`
	Description string     `json:"description,omitempty"`
	Invalid     string     `json:"invalid,omitempty"`
}

func runTokenList(ctx context.Context, streams Streams, t target, output outputFlag) error {
	c, client, err := t.connect(ctx, streams)
	if err != nil {
		return err
	}
	defer c.Close()
	tokens, err := kube.ListTokens(ctx, client)
	if err != nil {
		return err
	}
	lines := make([]tokenLine, len(tokens))
	for i, tok := range tokens {
		lines[i] = tokenLine{tok.Token.ID, tok.Expires, tok.Usages, tok.Groups, tok.Description, tok.Invalid}
	}
	if output.json() {
		return writeJSON(streams.Out, lines)
	}
	w := tabwriter.NewWriter(streams.Out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tLEFT\tUSAGES\tDESCRIPTION")
	for _, l := range lines {
		left := "for ever"
		if l.Expires != nil {
			left = max(l.Expires.Sub(c.Now()), 0).Round(time.Minute).String()
		}
		if l.Invalid != "" {
			left = "invalid: " + l.Invalid
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", l.ID, left, strings.Join(l.Usages, ","), l.Description)
	}
	return w.Flush()
}

func newTokenDeleteCommand(streams Streams) *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use:     "delete ID...",
		Short:   "Delete tokens, so that nobody can join with them any more",
		Example: "  myadm token delete abcdef -f cluster.yaml",
		Args:    asUsage(cobra.MinimumNArgs(1)),
		RunE:    func(cmd *cobra.Command, args []string) error { return runTokenDelete(cmd.Context(), streams, t, args) },
	}
	keepLog(cmd)
	t.register(cmd)
	return cmd
}

func runTokenDelete(ctx context.Context, streams Streams, t target, tokens []string) error {
	for _, token := range tokens {
		if _, secret, whole := strings.Cut(token, "."); whole {
			streams.journal.hide(secret)
		}
	}
	c, client, err := t.connect(ctx, streams)
	if err != nil {
		return err
	}
	defer c.Close()
	var errs []error
	for _, token := range tokens {
		if err := client.DeleteToken(ctx, token); err != nil {
			errs = append(errs, err)
			continue
		}
		id, _, _ := strings.Cut(token, ".")
		streams.journal.changed(workflow.Delete, "bootstrap token "+id)
	}
	return errors.Join(errs...)
}

// connect opens the control plane and gives the API as an administrator.
func (t *target) connect(ctx context.Context, streams Streams) (*cluster.Cluster, *kube.Client, error) {
	cfg, err := t.loadRunning(config.RoleControlPlane)
	if err != nil {
		return nil, nil, err
	}
	var hosts []config.Host
	for _, h := range cfg.Spec.Hosts {
		if h.HasRole(config.RoleControlPlane) {
			hosts = append(hosts, h)
		}
	}
	cfg.Spec.Hosts = hosts
	config.SetDefaults(cfg)
	if err := config.Validate(cfg); err != nil {
		return nil, nil, err
	}
	c, err := t.open(ctx, cfg, nil, streams)
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	client, err := c.Kube(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	return c, client, nil
}
