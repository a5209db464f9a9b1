package cmd

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/config"
)

type fromKubeadm struct {
	file   string
	hosts  []string
	strict bool
}

func newConfigFromKubeadmCommand(streams Streams) *cobra.Command {
	var f fromKubeadm
	cmd := &cobra.Command{
		Use:   "from-kubeadm",
		Short: "Translate a configuration file of kubeadm's into a document",
		Long: `Print the Cluster document that says what a file for kubeadm's --config says: InitConfiguration, ClusterConfiguration,
JoinConfigurations, KubeletConfiguration and KubeProxyConfiguration, any of them, of kubeadm.k8s.io/v1beta4. What
kubeadm takes by default is written out where myadm would take something else.

What has no place in the document is told on stderr, each with its line; with --strict it is refused. Unknown fields are
errors.

kubeadm's files say nothing of how to reach the hosts: the first --host is where InitConfiguration belongs, the next ones
are those of the JoinConfigurations, in their order, and any more become workers. Without --host, hosts are reached at
their advertise addresses, or by their names.`,
		Example: `  myadm config from-kubeadm -f kubeadm.yaml > cluster.yaml

  # a control plane and two workers
  myadm config from-kubeadm -f kubeadm.yaml --host root@10.0.0.1 --host root@10.0.0.2 --host root@10.0.0.3

  # of a cluster that kubeadm has made
  data() { echo ---; kubectl -n kube-system get configmap "$1" -o jsonpath="{.data.$2}"; echo; }
  { data kubeadm-config ClusterConfiguration; data kubelet-config kubelet; data kube-proxy 'config\.conf'; } > kubeadm.yaml
  myadm config from-kubeadm -f kubeadm.yaml --host root@10.0.0.1 --strict`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return runConfigFromKubeadm(streams, f) },
	}
	cmd.Flags().StringVarP(&f.file, "file", "f", "", "`file` of kubeadm's (YAML)")
	cmd.Flags().StringArrayVar(&f.hosts, "host", nil, "`[user@]address[:port]` of a host; may be repeated")
	cmd.Flags().BoolVar(&f.strict, "strict", false, "refuse what cannot be translated")
	return cmd
}

func runConfigFromKubeadm(streams Streams, f fromKubeadm) error {
	if f.file == "" {
		return usageError{errors.New("there is no file; hint: -f kubeadm.yaml")}
	}
	var hosts []config.Host
	for _, s := range f.hosts {
		h, err := parseHost(s)
		if err != nil {
			return usageError{err}
		}
		hosts = append(hosts, h)
	}
	data, err := config.ReadFile(f.file)
	if err != nil {
		return err
	}
	cluster, untranslated, err := config.ReadKubeadm(f.file, data, hosts)
	if err != nil {
		return err
	}
	if f.strict && len(untranslated) > 0 {
		return untranslated
	}
	for _, e := range untranslated {
		printWarning(streams.Err, e)
	}
	document, err := config.Marshal(cluster)
	if err != nil {
		return fmt.Errorf("%s: %w", f.file, err)
	}
	_, err = streams.Out.Write(document)
	return err
}
