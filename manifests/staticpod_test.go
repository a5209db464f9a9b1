package manifests_test

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// staticPods renders all four, in the order of their names.
func staticPods(t *testing.T, p manifests.Params, n manifests.Node) map[string]host.File {
	t.Helper()
	file := must[host.File](t)
	return map[string]host.File{
		manifests.EtcdName:              file(manifests.Etcd(p, n)),
		manifests.APIServerName:         file(manifests.APIServer(p, n)),
		manifests.ControllerManagerName: file(manifests.ControllerManager(p, n)),
		manifests.SchedulerName:         file(manifests.Scheduler(p)),
	}
}

func pod(t *testing.T, f host.File) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(f.Data, pod); err != nil {
		t.Fatalf("%s: %v", f.Path, err)
	}
	return pod
}

func TestStaticPodsEqualKubeadms(t *testing.T) {
	for name, f := range staticPods(t, kubeadmCluster(t), kubeadmNode()) {
		if diff := cmp.Diff(reference(t, name+".yaml")[0], decode(t, f.Data)); diff != "" {
			t.Errorf("%s differs from kubeadm's (-kubeadm +myadm):\n%s", name, diff)
		}
		if want := "/etc/kubernetes/manifests/" + name + ".yaml"; f.Path != want || f.Mode != 0o600 {
			t.Errorf("got %s %o, want %s 600", f.Path, f.Mode, want)
		}
	}
}

// A cluster with everything that a user can say of static pods, on a control plane that joins with IPv6 addresses.
func TestStaticPodsGolden(t *testing.T) {
	p := kubeadmCluster(t, func(s *config.Spec) {
		s.APIServerPort = 7443
		s.Networking = config.Networking{PodSubnet: "fd00:10:244::/56,10.244.0.0/16", ServiceSubnet: "fd00:10:96::/112,10.96.0.0/16", DNSDomain: "example.internal"}
		s.Etcd = config.Etcd{
			DataDir:   "/data/etcd",
			ExtraArgs: []config.Arg{{Name: "quota-backend-bytes", Value: "8589934592"}, {Name: "listen-metrics-urls", Value: "http://[::]:2391,http://[::1]:2381"}},
			ExtraEnvs: []corev1.EnvVar{{Name: "GOGC", Value: "80"}},
		}
		s.APIServer = config.Component{
			ExtraArgs: []config.Arg{
				{Name: "service-account-issuer", Value: "https://one.example"},
				{Name: "audit-policy-file", Value: "/etc/kubernetes/audit.yaml"},
				{Name: "service-account-issuer", Value: "https://two.example"},
			},
			ExtraVolumes: []config.HostPathMount{
				{Name: "audit", HostPath: "/etc/kubernetes/audit.yaml", MountPath: "/etc/kubernetes/audit.yaml", ReadOnly: true, PathType: corev1.HostPathFile},
				{Name: "ca-certs", HostPath: "/opt/certs", MountPath: "/etc/ssl/certs"},
			},
			ExtraEnvs: []corev1.EnvVar{{Name: "B", Value: "1"}, {Name: "A", Value: "1"}, {Name: "B", Value: "2"}},
		}
		s.ControllerManager.ExtraArgs = []config.Arg{{Name: "bind-address", Value: "::"}}
		s.Scheduler.ExtraArgs = []config.Arg{{Name: "bind-address", Value: "::1"}, {Name: "v", Value: "4"}}
	})
	n := manifests.Node{
		Name:             "cp-2",
		AdvertiseAddress: netip.MustParseAddr("fd00::2"),
		InitialCluster:   []manifests.Member{{Name: "cp-1", PeerURL: "https://[fd00::1]:2380"}, {Name: "cp-2", PeerURL: "https://[fd00::2]:2380"}},
	}
	for name, f := range staticPods(t, p, n) {
		golden(t, name+".yaml", f)
	}
}

func TestExtraArgs(t *testing.T) {
	tests := []struct {
		name  string
		extra []config.Arg
		want  []string // after the name of the binary
	}{
		{"none", nil, []string{
			"--authentication-kubeconfig=/etc/kubernetes/scheduler.conf",
			"--authorization-kubeconfig=/etc/kubernetes/scheduler.conf",
			"--bind-address=127.0.0.1", "--kubeconfig=/etc/kubernetes/scheduler.conf", "--leader-elect=true",
		}},
		{"a new one comes last", []config.Arg{{Name: "a", Value: "1"}}, []string{
			"--authentication-kubeconfig=/etc/kubernetes/scheduler.conf",
			"--authorization-kubeconfig=/etc/kubernetes/scheduler.conf",
			"--bind-address=127.0.0.1", "--kubeconfig=/etc/kubernetes/scheduler.conf", "--leader-elect=true", "--a=1",
		}},
		{"one of ours is replaced, by several, in the user's order", []config.Arg{
			{Name: "leader-elect", Value: "z"}, {Name: "bind-address", Value: ""}, {Name: "leader-elect", Value: "a"},
		}, []string{
			"--authentication-kubeconfig=/etc/kubernetes/scheduler.conf",
			"--authorization-kubeconfig=/etc/kubernetes/scheduler.conf",
			"--kubeconfig=/etc/kubernetes/scheduler.conf", "--leader-elect=z", "--bind-address=", "--leader-elect=a",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := kubeadmCluster(t, func(s *config.Spec) { s.Scheduler.ExtraArgs = test.extra })
			f := must[host.File](t)(manifests.Scheduler(p))
			want := append([]string{"kube-scheduler"}, test.want...)
			if diff := cmp.Diff(want, pod(t, f).Spec.Containers[0].Command); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAuthorizationConfigReplacesModes(t *testing.T) {
	p := kubeadmCluster(t, func(s *config.Spec) {
		s.APIServer.ExtraArgs = []config.Arg{{Name: "authorization-config", Value: "/etc/kubernetes/authz.yaml"}}
	})
	argv := pod(t, must[host.File](t)(manifests.APIServer(p, kubeadmNode()))).Spec.Containers[0].Command
	if slices.ContainsFunc(argv, func(a string) bool { return strings.HasPrefix(a, "--authorization-mode=") }) {
		t.Errorf("authorization-mode beside authorization-config: the API server does not start with both: %q", argv)
	}
}

func TestAPIServerFollowsEtcd(t *testing.T) {
	p := kubeadmCluster(t, func(s *config.Spec) {
		s.Etcd.ExtraArgs = []config.Arg{{Name: "advertise-client-urls", Value: "https://10.0.0.1:12379"}}
	})
	argv := pod(t, must[host.File](t)(manifests.APIServer(p, kubeadmNode()))).Spec.Containers[0].Command
	if want := "--etcd-servers=https://10.0.0.1:12379"; !slices.Contains(argv, want) {
		t.Errorf("no %s in %q", want, argv)
	}
}

func TestAPIServerBehindNodeLocalLeavesItsEndpoints(t *testing.T) {
	p := kubeadmCluster(t, func(s *config.Spec) {
		s.LoadBalancer.Type = config.LoadBalancerNodeLocal
		s.APIServer.ExtraArgs = []config.Arg{{Name: "v", Value: "2"}}
	})
	argv := pod(t, must[host.File](t)(manifests.APIServer(p, kubeadmNode()))).Spec.Containers[0].Command
	if got, want := argv[len(argv)-2:], []string{"--v=2", "--endpoint-reconciler-type=none"}; !slices.Equal(got, want) {
		t.Errorf("the command ends with %q, want %q, which is where kubeadm has them", got, want)
	}
}

func TestAPIServerOfExternalEtcd(t *testing.T) {
	p := kubeadmCluster(t, func(s *config.Spec) {
		s.Etcd.External = &config.ExternalEtcd{Endpoints: []string{"https://etcd-1:2379", "https://etcd-2:2379"}, CAFile: "ca.crt", CertFile: "etcd.crt", KeyFile: "etcd.key"}
	})
	argv := pod(t, must[host.File](t)(manifests.APIServer(p, kubeadmNode()))).Spec.Containers[0].Command
	got := slices.DeleteFunc(argv, func(a string) bool { return !strings.HasPrefix(a, "--etcd-") })
	want := []string{
		"--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt", "--etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt",
		"--etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key", "--etcd-servers=https://etcd-1:2379,https://etcd-2:2379",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("etcd's flags (-want +got):\n%s", diff)
	}
}

func TestProbesFollowTheUser(t *testing.T) {
	tests := []struct {
		metrics string
		want    string
	}{
		{"", "HTTP://127.0.0.1:2381"},
		{"https://10.0.0.1:2391", "HTTPS://10.0.0.1:2391"},
		{"http://0.0.0.0:2381", "HTTP://:2381"},
		{"http://10.0.0.1", "HTTP://10.0.0.1:2381"},
		{"http://10.0.0.1:99999", "HTTP://10.0.0.1:2381"},
		{"::not a url::", "HTTP://127.0.0.1:2381"},
	}
	for _, test := range tests {
		p := kubeadmCluster(t, func(s *config.Spec) {
			if test.metrics != "" {
				s.Etcd.ExtraArgs = []config.Arg{{Name: "listen-metrics-urls", Value: test.metrics}}
			}
		})
		c := pod(t, must[host.File](t)(manifests.Etcd(p, kubeadmNode()))).Spec.Containers[0]
		get := c.LivenessProbe.HTTPGet
		got := string(get.Scheme) + "://" + get.Host + ":" + strconv.Itoa(int(c.Ports[0].ContainerPort))
		if got != test.want {
			t.Errorf("listen-metrics-urls %q: probed at %s, want %s", test.metrics, got, test.want)
		}
	}
}
