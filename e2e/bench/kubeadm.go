package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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

// ignored are the findings of kubeadm's preflight that are the lab's and not its hosts': they share the kernel of a machine
// that may have swap, too few CPUs, cgroups of the first version, and no configuration of its kernel to read.
var ignored = strings.Join([]string{"NumCPU", "Mem", "Swap", "SystemVerification", "FileContent--proc-sys-net-bridge-bridge-nf-call-iptables"}, ",")

// ssh runs a command on a host, as kubeadm's users do.
func (b *bench) ssh(ctx context.Context, host string, command ...string) error {
	_, _, err := execute(ctx, append([]string{"ssh", "-F", b.lab.Path(lab.SSHConfig), host}, command...)...)
	return err
}

// timed runs kubeadm on hosts and then waits until they are Ready nodes. The latter time holds one more connection, to the
// control plane.
func (b *bench) timed(ctx context.Context, hosts []lab.Host, command ...string) (times, error) {
	start := time.Now()
	err := b.onAll(ctx, hosts, func(ctx context.Context, h lab.Host) error {
		return b.ssh(ctx, h.Name, append(command, "--ignore-preflight-errors", ignored)...)
	})
	t := times{end: time.Since(start)}
	if err != nil {
		return t, err
	}
	wait := []string{"kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "wait", "--for", "condition=Ready", "--timeout", "4m"}
	for _, h := range hosts {
		wait = append(wait, "node/"+h.Name)
	}
	err = b.ssh(ctx, b.lab.Hosts[0].Name, wait...)
	t.ready = time.Since(start)
	return t, err
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
	rendered, err := renderKubeadm(document, server.Address.String(), algorithm)
	if err != nil {
		return contender{}, err
	}
	c := contender{name: name}
	c.init = func(ctx context.Context) (times, error) {
		local := filepath.Join(b.dir, "kubeadm.yaml")
		if err := os.WriteFile(local, rendered, 0o600); err != nil {
			return times{}, err
		}
		defer os.Remove(local)
		if err := b.lab.Copy(ctx, server.Name, local, kubeadmConfig); err != nil {
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

// renderKubeadm makes kubeadm's configuration of a Cluster document of the lab: the same version and network, and the lab's
// own settings for kubelets and kube-proxies.
func renderKubeadm(document []byte, address, algorithm string) ([]byte, error) {
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
			"localAPIEndpoint": map[string]any{"advertiseAddress": address},
		}},
		{"kubeadm.k8s.io/v1beta4", "ClusterConfiguration", map[string]any{
			"kubernetesVersion": spec.KubernetesVersion,
			"networking":        map[string]any{"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/16"},
		}},
		{"kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", spec.Kubelet},
		{"kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration", spec.KubeProxy},
	}
	if algorithm != "" {
		documents[1].fields["encryptionAlgorithm"] = algorithm
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
