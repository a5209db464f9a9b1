package phases

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// Kubelet configures the kubelets and starts them. shared gives the KubeletConfiguration of the cluster: rendered from
// the document, or read from ConfigMap kubelet-config.
func Kubelet(c *cluster.Cluster, nodes []*cluster.Node, shared func() ([]byte, error)) workflow.Phase {
	service := kubeletService
	render := func(ctx context.Context, r host.Reader) ([]host.File, error) {
		data, err := shared()
		if err != nil {
			return nil, err
		}
		return kubeletFiles(ctx, c, r, data)
	}
	return workflow.Phase{
		Name:  "kubelet",
		Short: "configure and start the kubelet",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			return atOnce(ctx,
				func(ctx context.Context) ([]workflow.Change, error) { return diffRendered(ctx, r, render) },
				// The kubelet looks for static pods on workers too, and complains every second while there is no place for them.
				func(ctx context.Context) ([]workflow.Change, error) {
					return diffFolder(ctx, r, config.ManifestsDir, manifestsMode)
				},
				func(ctx context.Context) ([]workflow.Change, error) { return diffUnit(ctx, r, service) },
			)
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			if err := makeFolder(ctx, h, config.ManifestsDir, manifestsMode, changes); err != nil {
				return err
			}
			if err := writeRendered(ctx, h, render, changes); err != nil {
				return err
			}
			return startUnit(ctx, h, service)
		},
	}
}

var kubeletService = unit{name: "kubelet.service", files: []string{
	manifests.KubeletUnitPath, manifests.KubeletDropInPath, config.KubeletConfigFile, config.KubeletFlagsEnv, manifests.BinDir + "/kubelet",
	manifests.KubeletProxyPath, config.ProxyEnv,
	config.BootstrapKubeletConf, // a kubelet that waits for its certificate goes on asking with the token it was started with
}}

func kubeletFiles(ctx context.Context, c *cluster.Cluster, r host.Reader, shared []byte) ([]host.File, error) {
	n := c.Node(r)
	socket := c.Config.Spec.Runtime.Socket
	kubelet, err := manifests.KubeletConfigFile(shared, nodeOf(n), socket)
	if err != nil {
		return nil, err
	}
	args, err := standingFlags(ctx, r, kubeletFlags(n))
	if err != nil {
		return nil, err
	}
	flags, err := manifests.KubeletFlagsEnv(args)
	if err != nil {
		return nil, err
	}
	unit, err := kubeletUnit(ctx, c, r)
	if err != nil {
		return nil, err
	}
	return []host.File{kubelet, manifests.InstanceConfig(socket), flags, unit, manifests.KubeletDropIn()}, nil
}

// kubeletUnit is the kubelet's unit, which names the binaries that go when it goes.
func kubeletUnit(ctx context.Context, c *cluster.Cluster, r host.Reader) (host.File, error) {
	binaries, err := nodeBinaries(c, c.Node(r))
	if err != nil {
		return host.File{}, err
	}
	targets, err := unitBinaries(ctx, r, binaries, manifests.KubeletUnitPath)
	if err != nil {
		return host.File{}, err
	}
	return manifests.KubeletUnit(params(c), targets), nil
}

// kubeletFlags are what only flags can say: who the node is. Labels and taints are given here as well, so that nothing
// is scheduled to a new node before they are there; later changes are made through the API.
func kubeletFlags(n *cluster.Node) []config.Arg {
	args := []config.Arg{{Name: "node-ip", Value: n.Spec.AdvertiseAddress}}
	if n.Spec.Name != n.Facts.Hostname {
		args = append(args, config.Arg{Name: "hostname-override", Value: n.Spec.Name})
	}
	var labels, taints []string
	for _, name := range slices.Sorted(maps.Keys(n.Spec.Labels)) {
		if kubeletMaySet(name) {
			labels = append(labels, name+"="+n.Spec.Labels[name])
		}
	}
	_, all := manifests.NodeMarks(n.Spec)
	for _, t := range all {
		taints = append(taints, t.ToString())
	}
	if len(labels) > 0 {
		args = append(args, config.Arg{Name: "node-labels", Value: strings.Join(labels, ",")})
	}
	if len(taints) > 0 {
		args = append(args, config.Arg{Name: "register-with-taints", Value: strings.Join(taints, ",")})
	}
	return args
}

// standingFlags are the flags with the labels and taints that a host's kubelet has been given already: it registers with
// them once, and what the document says of them later is for MarkNodes, without a start of the kubelet.
func standingFlags(ctx context.Context, r host.Reader, args []config.Arg) ([]config.Arg, error) {
	have, err := r.ReadFile(ctx, config.KubeletFlagsEnv)
	if errors.Is(err, fs.ErrNotExist) {
		return args, nil
	}
	if err != nil {
		return nil, err
	}
	standing, ok := manifests.RegistrationFlags(have)
	if !ok {
		return args, nil
	}
	args = slices.DeleteFunc(args, func(a config.Arg) bool { return a.Name == "node-labels" || a.Name == "register-with-taints" })
	return append(args, standing...), nil
}

// kubeletMaySet tells whether the API lets a kubelet give its own node a label: any outside of Kubernetes' own domains,
// and those under node.kubernetes.io and kubelet.kubernetes.io (the NodeRestriction admission plugin's rule).
func kubeletMaySet(label string) bool {
	prefix, _, ok := strings.Cut(label, "/")
	if !ok {
		return true
	}
	under := func(domain string) bool { return prefix == domain || strings.HasSuffix(prefix, "."+domain) }
	return !under("kubernetes.io") && !under("k8s.io") || under("node.kubernetes.io") || under("kubelet.kubernetes.io")
}
