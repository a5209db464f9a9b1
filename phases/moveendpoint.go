package phases

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/staticpod"
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

// endpointDir holds on a host what its API server is started anew with.
const endpointDir = config.KubernetesDir + "/endpoint-flag"

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
			pod, changed, err := withEndpointFlag(ctx, r)
			if err != nil {
				return nil, err
			}
			var changes []workflow.Change
			if changed {
				changes = append(changes, workflow.Change{Action: workflow.Update, Object: path, Detail: manifests.EndpointFlag})
				if err := ShowFiles(ctx, r, changes, host.File{Path: path, Mode: 0o600, Data: pod}); err != nil {
					return nil, err
				}
			} else if running, err := runsWith(ctx, r, manifests.EndpointFlag); err != nil {
				return nil, err
			} else if !running {
				changes = append(changes, workflow.Change{Action: workflow.Run, Object: manifests.APIServerName, Detail: "with " + manifests.EndpointFlag})
			}
			left, err := r.Stat(ctx, endpointDir)
			if err == nil && left[0].Exists {
				changes = append(changes, workflow.Change{Action: workflow.Delete, Object: endpointDir})
			}
			return changes, err
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			pod, changed, err := withEndpointFlag(ctx, h)
			if err != nil {
				return err
			}
			e := staticpod.Exchange{Folder: endpointDir, End: []string{manifests.APIServerName}}
			if changed {
				next := host.File{Path: endpointDir + "/kube-apiserver.yaml", Mode: 0o600, Data: pod}
				if err := h.WriteFiles(ctx, next); err != nil {
					return err
				}
				e.Moves = []staticpod.Move{{From: next.Path, To: path}}
			}
			if hasObject(changes, path) || hasObject(changes, manifests.APIServerName) {
				if err := e.Run(ctx, h); err != nil {
					return err
				}
				if err := waitRestarted(ctx, c, c.Node(h), patience); err != nil {
					return err
				}
			}
			return h.Remove(ctx, endpointDir)
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

// waitRestarted waits until a control plane's API server runs with the flag, and is ready.
func waitRestarted(ctx context.Context, c *cluster.Cluster, n *cluster.Node, patience time.Duration) error {
	components := Components(c)
	i := slices.IndexFunc(components, func(p Component) bool { return p.Name == manifests.APIServerName })
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := poll(waiting, func(ctx context.Context) error {
		running, err := runsWith(ctx, n, manifests.EndpointFlag)
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

// runsWith tells whether a host's API server runs, and all processes of it have the flag.
func runsWith(ctx context.Context, r host.Reader, flag string) (bool, error) {
	processes, err := staticpod.Arguments(ctx, r, manifests.APIServerName)
	if err != nil {
		return false, err
	}
	return len(processes) > 0 && !slices.ContainsFunc(processes, func(words []string) bool { return !slices.Contains(words, flag) }), nil
}
