package cmd

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/apply"
	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

// initFlags are init's.
type initFlags struct {
	target
	selection
	lockFlags
	output        outputFlag
	kubeconfigOut string
	tokenTTL      time.Duration

	uploadCerts    bool
	certificateKey string

	endpoint     string
	loadBalancer string
}

func newInitCommand(streams Streams) *cobra.Command {
	var flags initFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a control plane of a bare host",
		Long: `Make a control plane of a host that has nothing but systemd and, over SSH, a root or sudo user.

The host is the document's first control plane, the one of --host, or this machine. Running it again changes nothing, or
carries on where an earlier run was stopped. The command ends when the control plane is healthy and its node Ready, and
prints the command with which other hosts join.

What the host lacks comes from --bundle, from a --mirror, or from the makers' servers, and is always verified.`,
		Example: `  # the control plane of a document
  myadm init -f cluster.yaml --bundle kubernetes-v1.37.2 --kubeconfig-out admin.conf

  # a host, without a document
  myadm init --host ubuntu@10.0.0.1 --bundle kubernetes-v1.37.2

  # this machine
  myadm init --bundle kubernetes-v1.37.2

  # a single phase
  myadm init phase certs -f cluster.yaml`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runInit(cmd.Context(), streams, flags) },
	}
	flags.register(cmd)
	cmd.AddCommand(newInitPhaseCommand(streams))
	return cmd
}

func (f *initFlags) register(cmd *cobra.Command) {
	keep(cmd)
	f.target.register(cmd)
	f.registerArtifacts(cmd)
	f.selection.register(cmd)
	f.registerLock(cmd)
	f.output.register(cmd)
	cmd.Flags().StringVar(&f.kubeconfigOut, "kubeconfig-out", "", "`file` to write the administrator's kubeconfig to (0600)")
	cmd.Flags().DurationVar(&f.tokenTTL, "token-ttl", kube.DefaultTokenTTL, "life of the token in the join command")
	cmd.Flags().StringVar(&f.endpoint, "control-plane-endpoint", "", "`host[:port]` of a load balancer in front of the API servers, if there is one")
	cmd.Flags().StringVar(&f.loadBalancer, "load-balancer", "", "`type` of the load balancer: node-local lets further control planes join later by token (default: the document's)")
	cmd.Flags().BoolVar(&f.uploadCerts, "upload-certs", false, "keep in the cluster, encrypted and for two hours, what hosts need that join as control planes by token")
	cmd.Flags().StringVar(&f.certificateKey, "certificate-key", "", "`key` to encrypt it with (default a new one, which is printed)")
}

// key is what --upload-certs encrypts with; the zero key without it.
func (f *initFlags) key() (certs.CertificateKey, error) {
	switch {
	case f.certificateKey != "" && !f.uploadCerts:
		return certs.CertificateKey{}, usageError{errors.New("--certificate-key is for --upload-certs")}
	case !f.uploadCerts:
		return certs.CertificateKey{}, nil
	case f.certificateKey == "":
		return certs.NewCertificateKey(rand.Reader)
	}
	key, err := certs.ParseCertificateKey(f.certificateKey)
	if err != nil {
		return key, usageError{fmt.Errorf("--certificate-key: %w", err)}
	}
	return key, nil
}

func newInitPhaseCommand(streams Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "phase NAME",
		Short:   "Run a single phase of init",
		Example: "  myadm init phase certs -f cluster.yaml",
	}
	for _, p := range initPhases() {
		var flags initFlags
		sub := &cobra.Command{
			Use:     p.Name,
			Short:   p.Short,
			Example: "  myadm init phase " + p.Name + " -f cluster.yaml",
			Args:    noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				flags.only = []string{p.Name}
				flags.uploadCerts = flags.uploadCerts || p.Name == "upload-certs"
				return runInit(cmd.Context(), streams, flags)
			},
		}
		flags.register(sub)
		cmd.AddCommand(sub)
	}
	return group(cmd)
}

// initPhases lists the phases for the help text; they are made for no host and never run.
func initPhases() []workflow.Phase {
	cfg := &config.Cluster{}
	config.SetDefaults(cfg)
	var all []workflow.Phase
	for _, s := range phases.Init(&cluster.Cluster{Config: cfg}, &cluster.Node{}, phases.InitOptions{}) {
		all = append(all, s.Phases()...)
	}
	return all
}

func runInit(ctx context.Context, streams Streams, flags initFlags) (err error) {
	key, err := flags.key()
	if err != nil {
		return err
	}
	streams.journal.hide(key.Reveal())
	c, err := flags.controlPlane(ctx, streams)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, unlock, err := flags.lock(ctx, streams, c)
	if err != nil {
		return err
	}
	defer unlock(&err)
	n, err := apply.Founder(ctx, c)
	if err == nil && flags.placesVersion() {
		err = apply.CheckVersion(ctx, c, n)
	}
	if err != nil {
		return err
	}
	release, err := flags.provide(ctx, streams, c, 1, flags.sends())
	if err != nil {
		return err
	}
	defer release()
	summary, err := runSteps(ctx, streams, flags.selection, flags.verbose, phases.Init(c, n, phases.InitOptions{
		IgnorePreflight: flags.ignorePreflight, Patience: flags.timeout, TokenTTL: flags.tokenTTL, CertificateKey: key,
	}))
	if err != nil {
		return err
	}
	if len(flags.only) > 0 {
		return tellKey(streams, flags, key)
	}
	if flags.kubeconfigOut != "" {
		if err := saveKubeconfig(ctx, n, flags.kubeconfigOut); err != nil {
			return err
		}
	}
	return tellInit(ctx, streams, flags, c, n, key, summary)
}

// tellKey prints the key of a run of single phases, if one of them has used it.
func tellKey(streams Streams, flags initFlags, key certs.CertificateKey) error {
	if key == (certs.CertificateKey{}) || !slices.Contains(flags.only, "upload-certs") {
		return nil
	}
	if flags.output.json() {
		return writeJSON(streams.Out, struct {
			CertificateKey string `json:"certificateKey"`
		}{key.Reveal()})
	}
	_, err := fmt.Fprintln(streams.Out, key.Reveal())
	return err
}

// controlPlane reads the document and connects to its control planes: a cluster is started only where none of them has one.
func (f *initFlags) controlPlane(ctx context.Context, streams Streams) (*cluster.Cluster, error) {
	if len(f.hosts) > 1 {
		return nil, usageError{errors.New("init makes one control plane; hint: further hosts join, and `myadm apply -f` makes a whole cluster of a document")}
	}
	cfg, err := f.load(config.RoleControlPlane)
	if err != nil {
		return nil, err
	}
	b, err := openBundle(cfg)
	if err != nil {
		return nil, err
	}
	override(cfg, &cfg.Spec.ControlPlaneEndpoint, f.endpoint, "--control-plane-endpoint", "spec.controlPlaneEndpoint")
	override(cfg, &cfg.Spec.LoadBalancer.Type, f.loadBalancer, "--load-balancer", "spec.loadBalancer.type")
	config.SetDefaults(cfg)
	if err := cmp.Or(config.Validate(cfg), config.ValidateFiles(cfg)); err != nil {
		return nil, err
	}
	if err := resolveVersion(ctx, streams, cfg); err != nil {
		return nil, err
	}
	cfg.Spec.Hosts = slices.DeleteFunc(cfg.Spec.Hosts, func(h config.Host) bool { return !h.HasRole(config.RoleControlPlane) })
	c, err := f.open(ctx, cfg, b, streams)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// tellInit prints how to go on.
func tellInit(ctx context.Context, streams Streams, flags initFlags, c *cluster.Cluster, n *cluster.Node, key certs.CertificateKey, summary workflow.Summary) error {
	client, err := c.Kube(ctx)
	if err != nil {
		return err
	}
	join := ""
	token, err := phases.InitToken(ctx, client, c.Now())
	if err == nil {
		join, err = joinCommand(ctx, c, n, token)
	}
	if err != nil && !errors.Is(err, phases.ErrNoToken) {
		return err
	}
	if flags.output.json() {
		return writeJSON(streams.Out, struct {
			Cluster     string  `json:"cluster"`
			Endpoint    string  `json:"endpoint"`
			Version     string  `json:"kubernetesVersion"`
			Node        string  `json:"node"`
			Changes     int     `json:"changes"`
			Seconds     float64 `json:"seconds"`
			Kubeconfig  string  `json:"kubeconfig,omitempty"`
			JoinCommand string  `json:"joinCommand,omitempty"`

			CertificateKey string `json:"certificateKey,omitempty"`
		}{c.Config.Metadata.Name, c.Config.Endpoint(), c.Config.Spec.KubernetesVersion, n.Spec.Name,
			summary.Changes, summary.Elapsed.Seconds(), flags.kubeconfigOut, join, key.Reveal()})
	}
	fmt.Fprintf(streams.Out, "\nThe control plane of cluster %s (Kubernetes %s) is up on %s, in %.1f s with %d changes.\n",
		c.Config.Metadata.Name, c.Config.Spec.KubernetesVersion, n.Spec.Name, summary.Elapsed.Seconds(), summary.Changes)
	if flags.kubeconfigOut != "" {
		fmt.Fprintf(streams.Out, "\nUse it:\n  kubectl --kubeconfig %s get nodes\n", flags.kubeconfigOut)
	} else {
		fmt.Fprintf(streams.Out, "\nThe administrator's kubeconfig is %s on the host; myadm kubeconfig prints it.\n", config.AdminConf)
	}
	if flags.file != "" {
		fmt.Fprintf(streams.Out, "\nJoin the other hosts of the document:\n  myadm join -f %s\n", flags.file)
	}
	if join != "" {
		fmt.Fprintf(streams.Out, "\nJoin any other host, on the host itself or with --host user@address:\n  %s\n", join)
	}
	if join != "" && key != (certs.CertificateKey{}) {
		fmt.Fprintf(streams.Out, "\nJoin one as a further control plane, within two hours:\n  %s --control-plane --certificate-key %s\n", join, key.Reveal())
	}
	return nil
}

// joinCommand is the command line for a host that joins.
func joinCommand(ctx context.Context, c *cluster.Cluster, n *cluster.Node, token kube.Token) (string, error) {
	ca, err := n.ReadFile(ctx, config.PKIDir+"/ca.crt")
	if err != nil {
		return "", err
	}
	pin, err := certs.PublicKeyPin(ca)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("myadm join %s --token %s --discovery-token-ca-cert-hash %s", c.Config.Endpoint(), token.Reveal(), pin), nil
}

// saveKubeconfig writes admin.conf to a file of the operator's: readable by its owner alone, and whole or not at all.
func saveKubeconfig(ctx context.Context, n *cluster.Node, path string) error {
	data, err := n.ReadFile(ctx, config.AdminConf)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".kubeconfig-*") // 0600 from the start
	if err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the kubeconfig: %w", err), os.Remove(f.Name()))
	}
	return nil
}
