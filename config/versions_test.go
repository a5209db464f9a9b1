package config

import (
	"regexp"
	"slices"
	"testing"

	"github.com/Masterminds/semver/v3"
)

func TestVersionsTableHasNoHoles(t *testing.T) {
	if !slices.Equal(Supported(), []string{"v1.36", "v1.37"}) {
		t.Errorf("Supported() = %v", Supported())
	}
	etcd, coreDNS, pause := regexp.MustCompile(`^3\.\d+\.\d+-\d+$`), regexp.MustCompile(`^v1\.\d+\.\d+$`), regexp.MustCompile(`^3\.\d+(\.\d+)?$`)
	var before *semver.Version
	for _, row := range table {
		v, err := ParseVersion(row.Newest)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := VersionsOf(row.Newest); err != nil || got != row {
			t.Errorf("VersionsOf(%s) = %+v, %v", row.Newest, got, err)
		}
		if before != nil && (v.Major() != before.Major() || v.Minor() != before.Minor()+1) {
			t.Errorf("%s follows %s", v, before)
		}
		if !etcd.MatchString(row.Etcd) || !coreDNS.MatchString(row.CoreDNS) || !pause.MatchString(row.Pause) {
			t.Errorf("a tag is missing: %+v", row)
		}
		before = v
	}
	if last := table[len(table)-1]; last.Newest != Newest {
		t.Errorf("Newest = %s, the table ends with %s", Newest, last.Newest)
	}
}

func TestVersionsOfRefuses(t *testing.T) {
	for given, want := range map[string]string{
		"":         `"" is not a Kubernetes version; hint: write it as v1.37.2`,
		"1.37.2":   `"1.37.2" is not a Kubernetes version; hint: write it as v1.37.2`,
		"vv1.37.2": `"vv1.37.2" is not a Kubernetes version; hint: write it as v1.37.2`,
		"v1.37":    `"v1.37" is not a Kubernetes version; hint: write it as v1.37.2`,
		"v1.38.0":  "Kubernetes v1.38.0 is not supported; hint: use v1.36 or v1.37, such as v1.37.2",
		"v2.37.0":  "Kubernetes v2.37.0 is not supported; hint: use v1.36 or v1.37, such as v1.37.2",
	} {
		if _, err := VersionsOf(given); err == nil || err.Error() != want {
			t.Errorf("VersionsOf(%q): %v, want %s", given, err, want)
		}
	}
}

func TestImagesOf(t *testing.T) {
	plain := []string{
		"registry.k8s.io/etcd:3.7.0-0", "registry.k8s.io/kube-apiserver:v1.37.2", "registry.k8s.io/kube-controller-manager:v1.37.2",
		"registry.k8s.io/kube-scheduler:v1.37.2", "registry.k8s.io/coredns/coredns:v1.14.6", "registry.k8s.io/kube-proxy:v1.37.2",
		"registry.k8s.io/pause:3.10.2",
	}
	tests := []struct {
		name, version, repository, plugin string
		want                              []string
		spec                              Spec // whatever else
	}{
		{"defaults", "", "", "", []string{
			"registry.k8s.io/etcd:3.7.0-0", "registry.k8s.io/kube-apiserver:v1.37.2", "registry.k8s.io/kube-controller-manager:v1.37.2",
			"registry.k8s.io/kube-scheduler:v1.37.2", "registry.k8s.io/coredns/coredns:v1.14.6", "registry.k8s.io/kube-proxy:v1.37.2",
			"registry.k8s.io/pause:3.10.2", "docker.io/flannel/flannel:v0.28.10"}, Spec{}},
		{"a mirror", "v1.36.1+x", "mirror:5000/k8s", "", []string{
			"mirror:5000/k8s/etcd:3.6.8-0", "mirror:5000/k8s/kube-apiserver:v1.36.1_x", "mirror:5000/k8s/kube-controller-manager:v1.36.1_x",
			"mirror:5000/k8s/kube-scheduler:v1.36.1_x", "mirror:5000/k8s/coredns:v1.14.2", "mirror:5000/k8s/kube-proxy:v1.36.1_x",
			"mirror:5000/k8s/pause:3.10.2", "mirror:5000/k8s/flannel:v0.28.10"}, Spec{}},
		{"another plugin", "v1.36.3", "", PluginNone, []string{
			"registry.k8s.io/etcd:3.6.8-0", "registry.k8s.io/kube-apiserver:v1.36.3", "registry.k8s.io/kube-controller-manager:v1.36.3",
			"registry.k8s.io/kube-scheduler:v1.36.3", "registry.k8s.io/coredns/coredns:v1.14.2", "registry.k8s.io/kube-proxy:v1.36.3",
			"registry.k8s.io/pause:3.10.2"}, Spec{}},
		{"HAProxy on the nodes", "", "", PluginNone, append(slices.Clone(plain), "docker.io/library/haproxy:2.6"),
			Spec{LoadBalancer: LoadBalancer{Type: LoadBalancerNodeLocal}}},
		{"keepalived, and etcd elsewhere", "", "", PluginNone, append(slices.Clone(plain[1:]), "docker.io/library/haproxy:2.6", "docker.io/osixia/keepalived:2.0.20"),
			Spec{LoadBalancer: LoadBalancer{VirtualIP: "192.0.2.10"}, Etcd: Etcd{External: &ExternalEtcd{}}}},
		{"load balancers of a mirror", "v1.36.3", "mirror", "", []string{
			"mirror/etcd:3.6.8-0", "mirror/kube-apiserver:v1.36.3", "mirror/kube-controller-manager:v1.36.3", "mirror/kube-scheduler:v1.36.3",
			"mirror/coredns:v1.14.2", "mirror/kube-proxy:v1.36.3", "mirror/pause:3.10.2", "mirror/flannel:v0.28.10", "mirror/haproxy:2.6", "mirror/keepalived:2.0.20"},
			Spec{LoadBalancer: LoadBalancer{VirtualIP: "192.0.2.10"}}},
		{"an external load balancer", "", "", PluginNone, plain, Spec{ControlPlaneEndpoint: "lb"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &Cluster{Spec: tt.spec}
			c.Spec.KubernetesVersion, c.Spec.ImageRepository, c.Spec.Networking.Plugin = tt.version, tt.repository, tt.plugin
			SetDefaults(c)
			images, err := ImagesOf(c)
			if err != nil {
				t.Fatal(err)
			}
			if got := images.All(); !slices.Equal(got, tt.want) {
				t.Errorf("images = %q\nwant     %q", got, tt.want)
			}
		})
	}
	if _, err := ImagesOf(&Cluster{}); err == nil {
		t.Error("a cluster without a version has images")
	}
}
