package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/join"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/workflow"
)

// joinFlags are join's.
type joinFlags struct {
	target
	selection
	lockFlags
	output     outputFlag
	token      string
	hashes     []string
	skipPin    bool
	nodeName   string
	nodeLabels map[string]string

	controlPlane   bool
	certificateKey string
}

func newJoinCommand(streams Streams) *cobra.Command {
	var flags joinFlags
	cmd := &cobra.Command{
		Use:   "join [ENDPOINT]",
		Short: "Make nodes of bare hosts, many at once",
		Long: `Make nodes of hosts that have nothing but systemd and, over SSH, a root or sudo user: workers and control planes.

With a document that names a control plane of the cluster, every host of it that is not yet a node joins, all at once.
What control planes share is copied from one to the others through memory. Otherwise the hosts of --host join, or this
machine, by a token and the API's address (host:port), as init and "token create --print-join-command" print them. The
hash pins the cluster's CA: a host never trusts another. With --control-plane they become control planes; what those
share comes from the cluster itself, by the key that "init --upload-certs" and "init phase upload-certs" print.

A control plane's etcd joins as a learner and is promoted when it has caught up. What an earlier, interrupted join has
left behind is recognised and cleared.

The command ends when the nodes are Ready. Running it again changes nothing, or carries on where it was stopped.`,
		Example: `  # all hosts of a document
  myadm join -f cluster.yaml

  # two hosts by token
  myadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:... \
    --host root@10.0.0.2 --host ubuntu@10.0.0.3 --bundle kubernetes-v1.37.2

  # this machine, as a further control plane
  myadm join 10.0.0.1:6443 --control-plane --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:... \
    --certificate-key ... --bundle kubernetes-v1.37.2

  # this machine, in a cloud-init script (the token from the variable MYADM_TOKEN)
  MYADM_TOKEN=... myadm join 10.0.0.1:6443 --discovery-token-ca-cert-hash sha256:... --bundle /opt/kubernetes-v1.37.2`,
		Args: maxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runJoin(cmd.Context(), streams, flags, strings.Join(args, ""))
		},
	}
	keep(cmd)
	flags.target.register(cmd)
	flags.registerArtifacts(cmd)
	flags.selection.register(cmd)
	flags.registerLock(cmd)
	flags.registerConcurrency(cmd)
	flags.output.register(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.token, "token", "", "bootstrap `token`, ID.SECRET")
	f.StringArrayVar(&flags.hashes, "discovery-token-ca-cert-hash", nil, "`sha256:hex` of the cluster's CA; may be repeated")
	f.BoolVar(&flags.skipPin, "discovery-token-unsafe-skip-ca-verification", false, "join without a hash: whoever knows the token can pose as the cluster")
	f.BoolVar(&flags.controlPlane, "control-plane", false, "the hosts become control planes")
	f.StringVar(&flags.certificateKey, "certificate-key", "", "`key` of what control planes share, as init --upload-certs prints it")
	f.StringVar(&flags.nodeName, "node-name", "", "`name` of the node, when one host joins (default the host's own)")
	f.StringToStringVar(&flags.nodeLabels, "node-labels", nil, "`labels` of the nodes, name=value, besides those of the document")
	return cmd
}

func runJoin(ctx context.Context, streams Streams, flags joinFlags, endpoint string) (err error) {
	flags.dials = flags.concurrency
	opts, err := flags.options(endpoint)
	if err != nil {
		return err
	}
	c, unreached, err := flags.connect(ctx, streams)
	if err != nil {
		return err
	}
	defer c.Close()

	if unreached != nil && flags.token == "" && len(c.ControlPlanes()) == 0 {
		return unreached // of the control plane, among others: there is nobody to ask for a token
	}
	ctx, unlock, err := flags.lock(ctx, streams, c)
	if err != nil {
		return errors.Join(unreached, err)
	}
	defer unlock(&err)
	present, nodes, err := join.Present(ctx, c)
	if err != nil {
		return errors.Join(unreached, err)
	}
	if len(nodes)+len(present) == 0 {
		return unreached
	}
	j, err := join.Prepare(ctx, c, present, nodes, opts)
	if err != nil {
		return errors.Join(unreached, err)
	}
	defer func() {
		// A Ctrl-C does not keep the token from being removed.
		err = errors.Join(err, j.Close(context.WithoutCancel(ctx)))
	}()
	release, err := flags.provide(ctx, streams, c, len(nodes), flags.sends())
	if err != nil {
		return errors.Join(unreached, err)
	}
	defer release()
	summary, err := runSteps(ctx, streams, flags.selection, flags.verbose, join.Steps(c, nodes, present, j, opts))
	if err := errors.Join(unreached, err); err != nil {
		return err
	}
	return flags.tell(streams, nodes, summary)
}

func (f *joinFlags) options(endpoint string) (join.Options, error) {
	opts := join.Options{
		Endpoint: endpoint, CACertHashes: f.hashes, SkipCAPin: f.skipPin, IgnorePreflight: f.ignorePreflight, Patience: f.timeout,
	}
	if f.token == "" {
		if endpoint != "" {
			return opts, usageError{errors.New("an endpoint needs a token; hint: --token, or the variable MYADM_TOKEN")}
		}
		if f.controlPlane || f.certificateKey != "" {
			return opts, usageError{errors.New("--control-plane and --certificate-key need an endpoint and a token; hint: a document says by itself which of its hosts are control planes")}
		}
		return opts, nil
	}
	token, err := kube.ParseToken(f.token)
	if err != nil {
		return opts, usageError{fmt.Errorf("--token: %w", err)}
	}
	opts.Token = token
	if f.certificateKey != "" && !f.controlPlane {
		return opts, usageError{errors.New("--certificate-key is for --control-plane")}
	}
	if f.certificateKey != "" {
		if opts.CertificateKey, err = certs.ParseCertificateKey(f.certificateKey); err != nil {
			return opts, usageError{fmt.Errorf("--certificate-key: %w", err)}
		}
	}
	switch {
	case endpoint == "":
		return opts, usageError{errors.New("a token needs the API's address; hint: myadm join HOST:6443 --token T")}
	case len(f.hashes) == 0 && !f.skipPin:
		return opts, usageError{errors.New("there is no pin of the cluster's CA; hint: --discovery-token-ca-cert-hash sha256:..., as myadm token create --print-join-command prints it")}
	}
	if _, _, err := net.SplitHostPort(endpoint); err != nil {
		return opts, usageError{fmt.Errorf("endpoint %q is not host:port", endpoint)}
	}
	return opts, nil
}

// connect reads the document and connects to its hosts. Hosts that cannot be reached do not keep the others from
// joining; their errors are returned apart.
func (f *joinFlags) connect(ctx context.Context, streams Streams) (c *cluster.Cluster, unreached, err error) {
	role := config.RoleWorker
	if f.controlPlane {
		role = config.RoleControlPlane
	}
	cfg, err := f.load(role)
	if err != nil {
		return nil, nil, err
	}
	b, err := openBundle(cfg)
	if err != nil {
		return nil, nil, err
	}
	forgetLabel(cfg)
	if f.token != "" { // the cluster is reached as any joining host reaches it
		cfg.Spec.Hosts = slices.DeleteFunc(cfg.Spec.Hosts, func(h config.Host) bool { return h.HasRole(config.RoleControlPlane) != f.controlPlane })
	}
	for i := range cfg.Spec.Hosts {
		h := &cfg.Spec.Hosts[i]
		if f.nodeName != "" {
			if len(cfg.Spec.Hosts) > 1 {
				return nil, nil, usageError{errors.New("--node-name is for one host; hint: a document names many")}
			}
			h.Name = f.nodeName
		}
		if len(f.nodeLabels) > 0 && h.HasRole(config.RoleControlPlane) == f.controlPlane {
			h.Labels = maps.Clone(h.Labels)
			if h.Labels == nil {
				h.Labels = map[string]string{}
			}
			maps.Copy(h.Labels, f.nodeLabels)
			h.FlagLabels = slices.Sorted(maps.Keys(f.nodeLabels))
		}
	}
	config.SetDefaults(cfg)
	if err := cmp.Or(config.ValidateJoin(cfg), config.ValidateFiles(cfg)); err != nil {
		return nil, nil, err
	}
	c, unreached = f.open(ctx, cfg, b, streams)
	return c, unreached, nil
}

func (f *joinFlags) tell(streams Streams, nodes []*cluster.Node, summary workflow.Summary) error {
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.Spec.Name
	}
	if f.output.json() {
		return writeJSON(streams.Out, struct {
			Nodes   []string `json:"nodes"`
			Changes int      `json:"changes"`
			Seconds float64  `json:"seconds"`
		}{names, summary.Changes, summary.Elapsed.Seconds()})
	}
	_, err := fmt.Fprintf(streams.Out, "\nReady: %s, in %.1f s with %d changes.\n", strings.Join(names, ", "), summary.Elapsed.Seconds(), summary.Changes)
	return err
}
