package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/e2e/lab"
)

// Where kubeadm and its configuration are on the hosts.
const (
	kubeadmPath   = "/usr/local/bin/kubeadm"
	kubeadmConfig = "/etc/kubeadm.yaml"
)

// kubectl is the administrator's, on a control plane.
var kubectl = []string{"kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"}

// ignored are the findings of kubeadm's preflight that are the lab's and not its hosts': they share the kernel of a machine
// that may have swap, too few CPUs, cgroups of the first version, and no configuration of its kernel to read.
var ignored = strings.Join([]string{"NumCPU", "Mem", "Swap", "SystemVerification", "FileContent--proc-sys-net-bridge-bridge-nf-call-iptables"}, ",")

// ssh runs a command on a host, as kubeadm's users do, and returns what it printed.
func (b *bench) ssh(ctx context.Context, host string, command ...string) ([]line, error) {
	lines, _, err := execute(ctx, append([]string{"ssh", "-F", b.lab.Path(lab.SSHConfig), host}, command...)...)
	return lines, err
}

// timed runs kubeadm on hosts and then waits until they are Ready nodes. The latter time holds one more connection, to the
// control plane.
func (b *bench) timed(ctx context.Context, hosts []lab.Host, command ...string) (times, error) {
	start := time.Now()
	err := b.onAll(ctx, hosts, func(ctx context.Context, h lab.Host) error {
		_, err := b.ssh(ctx, h.Name, append(command, "--ignore-preflight-errors", ignored)...)
		return err
	})
	t := times{end: time.Since(start)}
	if err != nil {
		return t, err
	}
	err = b.awaitReady(ctx, hosts)
	t.ready = time.Since(start)
	return t, err
}

// awaitReady waits on the first host until hosts that have joined are Ready nodes.
func (b *bench) awaitReady(ctx context.Context, hosts []lab.Host) error {
	wait := append(slices.Clone(kubectl), "wait", "--for", "condition=Ready", "--timeout", "4m")
	for _, h := range hosts {
		wait = append(wait, "node/"+h.Name)
	}
	_, err := b.ssh(ctx, b.lab.Hosts[0].Name, wait...)
	return err
}

// kubeadmContender is kubeadm as its users run it, with keys of an algorithm, empty for kubeadm's default.
func (b *bench) kubeadmContender(algorithm string) (contender, error) {
	name := nameKubeadm
	if algorithm != "" {
		name += " " + algorithm
	}
	document, err := os.ReadFile(b.lab.Path(lab.ClusterFile))
	if err != nil {
		return contender{}, err
	}
	server := b.lab.Hosts[0]
	rendered, err := renderKubeadm(document, kubeadmOptions{address: server.Address.String(), algorithm: algorithm})
	if err != nil {
		return contender{}, err
	}
	c := contender{name: name}
	c.init = func(ctx context.Context) (times, error) {
		if err := b.put(ctx, server, kubeadmConfig, rendered); err != nil {
			return times{}, err
		}
		return b.timed(ctx, b.lab.Hosts[:1], "kubeadm", "init", "--config", kubeadmConfig)
	}
	if algorithm != "" {
		return c, nil // the keys of workers are their kubelets', whatever the cluster's are
	}
	c.join = func(ctx context.Context) (times, error) {
		command, err := b.lab.Output(ctx, server.Name, "kubeadm", "token", "create", "--print-join-command")
		if err != nil {
			return times{}, err
		}
		return b.timed(ctx, b.lab.Hosts[1:], strings.Fields(command)...)
	}
	return c, nil
}

// put writes a file on a host.
func (b *bench) put(ctx context.Context, h lab.Host, path string, data []byte) error {
	local := filepath.Join(b.dir, filepath.Base(path))
	if err := os.WriteFile(local, data, 0o600); err != nil {
		return err
	}
	defer os.Remove(local)
	return b.lab.Copy(ctx, h.Name, local, path)
}

// kubeadmOptions are what a cluster of kubeadm's has besides what the document says. Empty is kubeadm's default.
type kubeadmOptions struct {
	address        string // that the API server advertises; needed
	algorithm      string // of keys
	endpoint       string // host:port of all API servers
	certificateKey string // of what control planes share
}

// renderKubeadm makes kubeadm's configuration of a Cluster document of the lab: the same version and network, and the lab's
// own settings for kubelets and kube-proxies.
func renderKubeadm(document []byte, o kubeadmOptions) ([]byte, error) {
	var cluster struct {
		Spec struct {
			KubernetesVersion string         `json:"kubernetesVersion"`
			Kubelet           map[string]any `json:"kubelet"`
			KubeProxy         map[string]any `json:"kubeProxy"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(document, &cluster); err != nil {
		return nil, fmt.Errorf("the lab's Cluster document: %w", err)
	}
	spec := cluster.Spec
	documents := []struct {
		version, kind string
		fields        map[string]any
	}{
		{"kubeadm.k8s.io/v1beta4", "InitConfiguration", map[string]any{
			"localAPIEndpoint": map[string]any{"advertiseAddress": o.address},
		}},
		{"kubeadm.k8s.io/v1beta4", "ClusterConfiguration", map[string]any{
			"kubernetesVersion": spec.KubernetesVersion,
			"networking":        map[string]any{"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/16"},
		}},
		{"kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", spec.Kubelet},
		{"kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration", spec.KubeProxy},
	}
	for _, option := range []struct {
		document    int
		name, value string
	}{{0, "certificateKey", o.certificateKey}, {1, "controlPlaneEndpoint", o.endpoint}, {1, "encryptionAlgorithm", o.algorithm}} {
		if option.value != "" {
			documents[option.document].fields[option.name] = option.value
		}
	}
	var out []byte
	for _, d := range documents {
		whole := map[string]any{"apiVersion": d.version, "kind": d.kind}
		for name, value := range d.fields {
			whole[name] = value
		}
		text, err := yaml.Marshal(whole)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.kind, err)
		}
		out = append(append(out, "---\n"...), text...)
	}
	return out, nil
}
