package cluster

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
)

func inKubeSystem(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name}, Data: data,
	}
}

func kubeadmSays(lines string) *corev1.ConfigMap {
	return inKubeSystem("kubeadm-config", map[string]string{"ClusterConfiguration": "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n" + lines})
}

func TestLearn(t *testing.T) {
	ours := inKubeSystem("myadm-config", map[string]string{
		"networkPlugin": "flannel", "loadBalancer": "{type: node-local, port: 7444, routerID: 9}", "apiServers": "10.0.0.1:6443,10.0.0.9:6443",
	})
	tests := []struct {
		name     string
		objects  []*corev1.ConfigMap
		plugin   string
		balancer config.LoadBalancer
		endpoint string
		learned  []netip.AddrPort
		ours     bool
	}{
		{"made by myadm", []*corev1.ConfigMap{kubeadmSays("controlPlaneEndpoint: 10.0.0.1:6443"), ours}, "flannel",
			config.LoadBalancer{Type: "node-local", Port: 7444, RouterID: 9}, "10.0.0.1:6443",
			[]netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:6443"), netip.MustParseAddrPort("10.0.0.9:6443")}, true},
		{"made by kubeadm", []*corev1.ConfigMap{kubeadmSays("kubernetesVersion: v1.36.3")}, "none",
			config.LoadBalancer{Port: 6444}, "", nil, false},
		{"made by kubeadm, behind somebody's load balancer", []*corev1.ConfigMap{kubeadmSays("controlPlaneEndpoint: lb:443")}, "none",
			config.LoadBalancer{Type: "external", Port: 6444}, "lb:443", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := kubetest.NewServer(t)
			for _, o := range tt.objects {
				server.Put(t, o)
			}
			c := &Cluster{Config: &config.Cluster{Spec: config.Spec{ControlPlaneEndpoint: "of-the-document", LoadBalancer: config.LoadBalancer{Type: "keepalived"}}}}
			known, err := c.Learn(t.Context(), server.Client(t, kube.Options{}))
			if err != nil || known != tt.ours {
				t.Fatalf("%t, %v", known, err)
			}
			s := c.Config.Spec
			if s.Networking.Plugin != tt.plugin || s.ControlPlaneEndpoint != tt.endpoint || !slices.Equal(c.Learned, tt.learned) {
				t.Errorf("plugin %q, endpoint %q, API servers %v", s.Networking.Plugin, s.ControlPlaneEndpoint, c.Learned)
			}
			if diff := cmp.Diff(tt.balancer, s.LoadBalancer); diff != "" {
				t.Errorf("load balancer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLearnRefusesWhatItCannotRead(t *testing.T) {
	for want, objects := range map[string][]*corev1.ConfigMap{
		`ConfigMap kube-system/kubeadm-config`:                     nil,
		`ConfigMap kube-system/kubeadm-config: not kubeadm's`:      {inKubeSystem("kubeadm-config", nil)},
		`ConfigMap kube-system/myadm-config: key loadBalancer: ty`: {kubeadmSays(""), inKubeSystem("myadm-config", map[string]string{"loadBalancer": "{type: x, port: 1, routerID: 1}"})},
	} {
		server := kubetest.NewServer(t)
		for _, o := range objects {
			server.Put(t, o)
		}
		c := &Cluster{Config: &config.Cluster{}}
		if _, err := c.Learn(t.Context(), server.Client(t, kube.Options{})); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
