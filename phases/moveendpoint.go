package phases

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// MoveEndpoint has those components follow the load balancer that run in the cluster itself, when a cluster that had one
// control plane gets more: kube-proxy, flannel, and what kubeadm knows of the cluster. Where the endpoint is somebody
// else's, or has been this one all along, nothing differs.
func MoveEndpoint(c *cluster.Cluster) workflow.Phase {
	return objectPhase(c, "move-endpoint", "let kube-proxy and flannel follow the endpoint", func(ctx context.Context) ([]*unstructured.Unstructured, error) {
		if !c.Config.Spec.LoadBalancer.Balanced() {
			return nil, nil
		}
		client, err := c.Kube(ctx)
		if err != nil {
			return nil, err
		}
		have, err := kube.Get[corev1.ConfigMap](ctx, client, kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: manifests.KubeadmConfigName})
		if err != nil {
			return nil, err
		}
		data, err := config.UpdateKubeadm([]byte(have.Data[manifests.KubeadmConfigKey]), c.Config)
		if err != nil {
			return nil, fmt.Errorf("ConfigMap kube-system/%s: %w", manifests.KubeadmConfigName, err)
		}
		makers := []func() ([]*unstructured.Unstructured, error){
			func() ([]*unstructured.Unstructured, error) { return manifests.KubeadmConfig(data) },
			func() ([]*unstructured.Unstructured, error) { return manifests.KubeProxy(params(c)) },
		}
		if len(c.Config.Spec.KubeProxy) == 0 {
			makers = makers[:1] // the cluster goes without kube-proxy
		}
		if c.Config.Spec.Networking.Plugin == config.PluginFlannel {
			makers = append(makers, func() ([]*unstructured.Unstructured, error) { return manifests.Flannel(params(c)) })
		}
		return together(nil, makers...)
	})
}

// EndpointFlag has the API servers of control planes that began without the node-local load balancer leave the endpoints of
// the Service kubernetes to myadm, which names the load balancers there. One after the other is started anew, and the
// load balancers send its clients to the others meanwhile.
func EndpointFlag(c *cluster.Cluster, nodes []*cluster.Node, patience time.Duration) workflow.Phase {
	path := manifests.StaticPodPath(manifests.APIServerName)
	return workflow.Phase{
		Name:     "endpoint-flag",
		Short:    "let the API servers leave their endpoints to the load balancers",
		Hosts:    cluster.Hosts(nodes),
		Parallel: 1,
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			if c.Config.Spec.LoadBalancer.Type != config.LoadBalancerNodeLocal {
				return nil, nil
			}
			_, changed, err := withEndpointFlag(ctx, r)
			if err != nil {
				return nil, err
			}
			if changed {
				return []workflow.Change{{Action: workflow.Update, Object: path, Detail: manifests.EndpointFlag}}, nil
			}
			running, err := runsWith(ctx, r, manifests.APIServerName, manifests.EndpointFlag)
			if err != nil || running {
				return nil, err
			}
			return []workflow.Change{{Action: workflow.Run, Object: manifests.APIServerName, Detail: "with " + manifests.EndpointFlag}}, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			pod, _, err := withEndpointFlag(ctx, h)
			if err != nil {
				return err
			}
			// A kubelet that runs would wait long before it starts the new pod. One that starts finds nothing of the old.
			if _, err := h.Run(ctx, host.Command("systemctl", "stop", "kubelet.service")); err != nil {
				return fmt.Errorf("stop the kubelet: %w", err)
			}
			if err := h.WriteFiles(ctx, host.File{Path: path, Mode: 0o600, Data: pod}); err != nil {
				return err
			}
			if _, err := h.Run(ctx, host.Command("sh", "-c", endScript, "sh", manifests.APIServerName)); err != nil {
				return fmt.Errorf("end the API server: %w", err)
			}
			if _, err := h.Run(ctx, host.Command("systemctl", "start", "kubelet.service")); err != nil {
				return fmt.Errorf("start the kubelet: %w", err)
			}
			return waitRestarted(ctx, c, c.Node(h), patience)
		},
	}
}

// withEndpointFlag is the static pod of a host's API server with the flag.
func withEndpointFlag(ctx context.Context, r host.Reader) (pod []byte, changed bool, err error) {
	path := manifests.StaticPodPath(manifests.APIServerName)
	have, err := r.ReadFile(ctx, path)
	if err != nil {
		return nil, false, err
	}
	pod, changed, err = manifests.WithEndpointFlag(have)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", path, err)
	}
	return pod, changed, nil
}

// endScript ends the processes whose program is named $1 and waits until they are gone. An API server would wait a minute
// for watches that never end by themselves; after five seconds only those are left, and their clients go elsewhere.
const endScript = `
of() { ls -l /proc/[0-9]*/exe 2>/dev/null | sed -n "s,.* /proc/\([0-9]*\)/exe -> .*/$1\$,\1,p"; }
pids=$(of "$1")
[ -z "$pids" ] || kill $pids
waited=0
while pids=$(of "$1"); [ -n "$pids" ]; do
	[ $waited -lt 50 ] || kill -KILL $pids 2>/dev/null
	waited=$((waited + 1))
	sleep 0.1
done
`

// waitRestarted waits until a control plane's API server runs with the flag, and is ready.
func waitRestarted(ctx context.Context, c *cluster.Cluster, n *cluster.Node, patience time.Duration) error {
	components := Components(c)
	i := slices.IndexFunc(components, func(p Component) bool { return p.Name == manifests.APIServerName })
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := poll(waiting, func(ctx context.Context) error {
		running, err := runsWith(ctx, n, manifests.APIServerName, manifests.EndpointFlag)
		if err != nil {
			return err
		}
		if !running {
			return fmt.Errorf("it does not run with %s yet", manifests.EndpointFlag)
		}
		return kube.Healthy(ctx, components[i].Probe(c, n))
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w%s", manifests.APIServerName, err, LastWords(ctx, n, manifests.APIServerName))
	}
	return err
}

// commandScript prints the command lines of the processes whose program is named $1, a line each.
const commandScript = `
for f in /proc/[0-9]*/cmdline; do
	line=$(tr '\0' ' ' <"$f" 2>/dev/null) || continue
	program=${line%% *}
	[ "${program##*/}" = "$1" ] && echo "$line"
done
true
`

// runsWith tells whether a program runs on a host, and all processes of it have the flag.
func runsWith(ctx context.Context, r host.Reader, program, flag string) (bool, error) {
	out, err := r.Query(ctx, host.Command("sh", "-c", commandScript, "sh", program))
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", program, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[0] != "" && !slices.ContainsFunc(lines, func(line string) bool { return !slices.Contains(strings.Fields(line), flag) }), nil
}
