package phases

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// What the kubelet reads at its start makes it start anew when it changes, once; what it does not read does not.
func TestKubeletRestartsWhenItsFilesChange(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, c *cluster.Cluster, m *machine)
		starts int // besides the first one
	}{
		{"nothing", func(*testing.T, *cluster.Cluster, *machine) {}, 0},
		{"its configuration", func(_ *testing.T, c *cluster.Cluster, _ *machine) {
			c.Config.Spec.Kubelet = map[string]any{"maxPods": int64(200)}
		}, 1},
		{"its flags", func(_ *testing.T, c *cluster.Cluster, _ *machine) {
			c.Nodes[0].Spec.AdvertiseAddress = "10.0.0.99"
		}, 1},
		{"labels and taints, which it has registered its Node with and which the API has now", func(_ *testing.T, c *cluster.Cluster, _ *machine) {
			c.Nodes[0].Spec.Labels = map[string]string{"disk": "ssd"}
			c.Nodes[0].Spec.Taints = []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}
		}, 0},
		{"its unit", func(_ *testing.T, _ *cluster.Cluster, m *machine) {
			m.touch(manifests.KubeletUnitPath, 0o644, "[Service]\n")
		}, 1},
		{"its binary, by another phase", func(t *testing.T, c *cluster.Cluster, m *machine) {
			b, err := makeBundle(t.TempDir(), "kubelet 2")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { b.Close() })
			c.Bundle = b
			run(t, Binaries(c, c.Nodes))
		}, 1},
		// A kubelet that was started with a token never looks at the file again, and the token may have expired.
		{"its bootstrap token", func(_ *testing.T, _ *cluster.Cluster, m *machine) {
			m.touch(config.BootstrapKubeletConf, 0o600, "another token")
		}, 1},
		{"its kubeconfig, as the phase kubelet-finalize does", func(_ *testing.T, _ *cluster.Cluster, m *machine) {
			m.touch(config.KubeletConf, 0o600, "follow the rotation")
		}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, machines := testCluster(t, "h1")
			m := machines[0]
			run(t, Binaries(c, c.Nodes), testKubelet(c, c.Nodes[0]))
			before := m.units.Starts("kubelet")
			tt.change(t, c, m)
			run(t, testKubelet(c, c.Nodes[0]))
			settled(t, testKubelet(c, c.Nodes[0]), c.Nodes[0])
			if got := m.units.Starts("kubelet") - before; got != tt.starts {
				t.Errorf("started %d times, want %d", got, tt.starts)
			}
			if !m.units.RunsCurrent("kubelet") || !m.units.Enabled("kubelet") {
				t.Error("the kubelet does not run as its files say, now and at boot")
			}
		})
	}
}

func TestKubeletThatDoesNotStart(t *testing.T) {
	c, machines := testCluster(t, "h1")
	machines[0].units.Refuse("kubelet")
	_, err := new(workflow.Runner).Run(t.Context(), testKubelet(c, c.Nodes[0]))
	if err == nil || !strings.HasPrefix(err.Error(), "h1: kubelet: restart kubelet.service: ") || !strings.Contains(err.Error(), "; hint: journalctl -u kubelet.service") {
		t.Errorf("got %v", err)
	}
}

func TestKubeletFlags(t *testing.T) {
	taint := corev1.Taint{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}
	tests := []struct {
		name     string
		spec     config.Host
		hostname string
		want     []string
	}{
		{"nothing of its own", config.Host{Name: "h1"}, "h1", []string{"node-ip=10.0.0.1"}},
		{"another name than the host's", config.Host{Name: "w-1"}, "ip-10-0-0-1", []string{"node-ip=10.0.0.1", "hostname-override=w-1"}},
		{"a host whose name has capitals", config.Host{Name: "h1"}, "H1", []string{"node-ip=10.0.0.1", "hostname-override=h1"}},
		{"labels in order, those that the API refuses left out", config.Host{Name: "h1", Labels: map[string]string{
			"zone": "b", "disk": "ssd", "node-role.kubernetes.io/worker": "", "node.kubernetes.io/pool": "x",
		}}, "h1", []string{"node-ip=10.0.0.1", "node-labels=disk=ssd,node.kubernetes.io/pool=x,zone=b"}},
		{"taints", config.Host{Name: "h1", Taints: []corev1.Taint{taint, {Key: "new", Effect: corev1.TaintEffectNoExecute}}}, "h1",
			[]string{"node-ip=10.0.0.1", "register-with-taints=gpu=yes:NoSchedule,new:NoExecute"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.spec.AdvertiseAddress = "10.0.0.1"
			var got []string
			for _, a := range kubeletFlags(&cluster.Node{Spec: tt.spec, Facts: cluster.Facts{Hostname: tt.hostname}}) {
				got = append(got, a.Name+"="+a.Value)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The API refuses a node that gives itself a label of these: the rule is the NodeRestriction admission plugin's.
func TestKubeletMaySet(t *testing.T) {
	may := []string{"disk", "example.com/disk", "node.kubernetes.io/pool", "pool.node.kubernetes.io/x", "kubelet.kubernetes.io/x", "notkubernetes.io/x", "xk8s.io/y"}
	mayNot := []string{"node-role.kubernetes.io/worker", "kubernetes.io/x", "k8s.io/x", "topology.k8s.io/zone", "node-restriction.kubernetes.io/x", "xnode.kubernetes.io/x"}
	for _, label := range slices.Concat(may, mayNot) {
		if got, want := kubeletMaySet(label), slices.Contains(may, label); got != want {
			t.Errorf("%s: %t, want %t", label, got, want)
		}
	}
}

// The kubelet is told where real nameservers are only where systemd-resolved has put a stub before them.
func TestResolvConf(t *testing.T) {
	for resolvConf, want := range map[string]string{
		"/run/systemd/resolve/stub-resolv.conf": manifests.ResolvedConf,
		"/run/systemd/resolve/resolv.conf":      manifests.ResolvedConf,
		"/etc/resolv.conf":                      "",
		"":                                      "",
	} {
		n := &cluster.Node{Spec: config.Host{Name: "h1", AdvertiseAddress: "10.0.0.1"}, Facts: cluster.Facts{ResolvConf: resolvConf}}
		if got := nodeOf(n).ResolvConf; got != want {
			t.Errorf("%q: got %q, want %q", resolvConf, got, want)
		}
	}
}
