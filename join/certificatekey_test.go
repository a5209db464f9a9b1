package join

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd/etcdtest"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

var kubeadmCerts = kube.Ref{APIVersion: "v1", Kind: "Secret", Namespace: "kube-system", Name: "kubeadm-certs"}

// uploaded keeps cp-1's PKI in the cluster and gives the key to it.
func (n *network) uploaded(t testing.TB) certs.CertificateKey {
	t.Helper()
	key, err := certs.NewCertificateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	run(t, phases.UploadCerts(n.cluster, n.cluster.Nodes[0], key))
	return key
}

// A control plane joins by token and key: it has the PKI without SSH to any other host, and thereby an administrator's
// rights and a way to etcd.
func TestControlPlaneJoinsByKey(t *testing.T) {
	member := etcdtest.NewTLS(t).Start("cp-1")
	given := certs.Files{}
	for _, path := range []string{config.PKIDir + "/etcd/ca.crt", config.PKIDir + "/etcd/ca.key"} {
		given[path] = member.PKI()[path]
	}
	n := newRealm(t, config.LoadBalancerNodeLocal, given, "cp-2")
	n.server.Put(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "kube-system", Name: "etcd-cp-1", Labels: map[string]string{"component": "etcd"},
		Annotations: map[string]string{manifests.EtcdURLsAnnotation: member.ClientURL()},
	}})
	key := n.uploaded(t)
	c := n.withoutControlPlane()
	c.Now = n.cluster.Now
	opts := n.byToken(t)
	opts.CertificateKey = key
	j, err := Prepare(t.Context(), c, nil, n.joiners, opts)
	if err != nil {
		t.Fatal(err)
	}
	if !j.administers || !j.signs {
		t.Errorf("it may act as an administrator: %t, sign: %t", j.administers, j.signs)
	}
	shared, err := j.pki(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range certs.SharedPaths(false) {
		if file, _ := n.fakes["cp-1"].Get(path); string(file.Data) != string(shared[path]) {
			t.Errorf("%s is not that of cp-1", path)
		}
	}
	client, err := j.etcd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if members, err := client.Members(t.Context()); err != nil || len(members) != 1 || members[0].Name != "cp-1" {
		t.Errorf("etcd's members are %+v, %v", members, err)
	}
	if again, err := j.etcd(t.Context()); again != client || err != nil {
		t.Errorf("another client is made every time: %v", err)
	}
	f := n.fakes["cp-2"]
	if len(f.Writes())+len(f.Runs()) > 0 {
		t.Errorf("wrote %q, ran %q", f.Writes(), f.Runs())
	}
	for _, text := range append(n.server.Requests(), commandLines(n)...) {
		if strings.Contains(text, key.Reveal()) {
			t.Errorf("the key is in %s", text)
		}
	}

	// Once the host has the PKI, neither the Secret nor the key is needed any more. Its kubelet may have a kubeconfig that
	// leads to an API server which is still to come.
	run(t, phases.JoinCerts(c, n.joiners, j.pki))
	f.Put(host.File{Path: config.KubeletConf, Mode: 0o600, Data: []byte("{}")})
	n.server.Remove(kubeadmCerts)
	opts.CertificateKey = certs.CertificateKey{}
	if j, err = Prepare(t.Context(), c, nil, n.joiners, opts); err != nil || !j.administers {
		t.Errorf("another run: %v", err)
	}
}

func commandLines(n *network) []string {
	var all []string
	for _, f := range n.fakes {
		for _, c := range f.Commands() {
			all = append(all, c.String())
		}
	}
	return all
}

func TestControlPlaneThatMayNotJoin(t *testing.T) {
	edit := func(t *testing.T, n *network, change func(data map[string]any)) {
		t.Helper()
		o := n.server.Object(kubeadmCerts)
		data, _, err := unstructured.NestedMap(o.Object, "data")
		if err != nil {
			t.Fatal(err)
		}
		change(data)
		if err := unstructured.SetNestedMap(o.Object, data, "data"); err != nil {
			t.Fatal(err)
		}
		n.server.Put(t, o)
	}
	for _, tt := range []struct {
		name     string
		balancer string
		arrange  func(t *testing.T, n *network, opts *Options)
		want     string
	}{
		{"without a key", config.LoadBalancerNodeLocal, func(_ *testing.T, _ *network, opts *Options) {
			opts.CertificateKey = certs.CertificateKey{}
		}, ErrNoCertificateKey.Error()},
		{"with another key", config.LoadBalancerNodeLocal, func(t *testing.T, _ *network, opts *Options) {
			other, err := certs.NewCertificateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			opts.CertificateKey = other
		}, "Secret kube-system/kubeadm-certs: the certificate key does not open"},
		{"after two hours", config.LoadBalancerNodeLocal, func(_ *testing.T, n *network, _ *Options) { n.server.Remove(kubeadmCerts) },
			"hint: it lives for two hours, and `myadm init phase upload-certs`"},
		{"a Secret that was cut", config.LoadBalancerNodeLocal, func(t *testing.T, n *network, _ *Options) {
			edit(t, n, func(data map[string]any) { data["ca.key"] = "AAAA" })
		}, "Secret kube-system/kubeadm-certs: ca.key is too short; hint: "},
		{"a Secret that lacks a file", config.LoadBalancerNodeLocal, func(t *testing.T, n *network, _ *Options) {
			edit(t, n, func(data map[string]any) { delete(data, "sa.key") })
		}, "Secret kube-system/kubeadm-certs lacks " + config.PKIDir + "/sa.key; hint: "},
		{"a cluster without an endpoint for several", "", func(*testing.T, *network, *Options) {}, ErrNoEndpoint.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newRealm(t, tt.balancer, nil, "cp-2")
			key := n.uploaded(t)
			c := n.withoutControlPlane()
			c.Now = n.cluster.Now
			opts := n.byToken(t)
			opts.CertificateKey = key
			tt.arrange(t, n, &opts)
			_, err := Prepare(t.Context(), c, nil, n.joiners, opts)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			if text := err.Error(); strings.Contains(text, key.Reveal()) || opts.CertificateKey.Reveal() != "" && strings.Contains(text, opts.CertificateKey.Reveal()) {
				t.Errorf("the error shows a key: %s", text)
			}
			if f := n.fakes["cp-2"]; len(f.Writes()) > 0 {
				t.Errorf("wrote %q", f.Writes())
			}
		})
	}
}

// A worker needs neither the key nor what it opens, whatever is said.
func TestWorkerIsGivenNoPKI(t *testing.T) {
	n := newRealm(t, config.LoadBalancerNodeLocal, nil, "w-1")
	c := n.withoutControlPlane()
	opts := n.byToken(t)
	opts.CertificateKey = n.uploaded(t)
	j, err := Prepare(t.Context(), c, nil, n.joiners, opts)
	if err != nil || j.administers || j.signs || j.pki != nil || j.etcd != nil {
		t.Errorf("%+v, %v", j, err)
	}
}

func TestEtcdThatIsNotFound(t *testing.T) {
	n := newRealm(t, config.LoadBalancerNodeLocal, nil, "cp-2")
	client := n.server.Client(t, kube.Options{})
	_, err := connectEtcd(t.Context(), client, n.joiners[0], certs.Files{})
	if err == nil || !strings.Contains(err.Error(), "hint: is etcd external?") {
		t.Errorf("got %v", err)
	}
	// The host's own pod, left by an earlier run, leads nowhere.
	n.server.Put(t, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "kube-system", Name: "etcd-cp-2", Labels: map[string]string{"component": "etcd"},
			Annotations: map[string]string{manifests.EtcdURLsAnnotation: "https://10.0.0.2:2379"},
		},
		Spec: corev1.PodSpec{NodeName: "cp-2"},
	})
	if _, err := connectEtcd(t.Context(), client, n.joiners[0], certs.Files{}); err == nil || !strings.Contains(err.Error(), "found no pod of etcd") {
		t.Errorf("got %v", err)
	}
}

// A file that the cluster's document has for its API servers does not come with a token: the host is refused, untouched.
func TestControlPlaneWithoutADocumentsFile(t *testing.T) {
	n := newRealm(t, config.LoadBalancerNodeLocal, nil, "cp-2")
	n.cluster.Config.Spec.APIServer.ExtraVolumes = []config.HostPathMount{
		{Name: "audit", File: "audit.yaml", HostPath: "/etc/audit.yaml", MountPath: "/etc/audit.yaml"},
	}
	config.SetDefaults(n.cluster.Config)
	run(t, phases.UploadConfig(n.cluster))
	key := n.uploaded(t)
	c := n.withoutControlPlane()
	c.Now = n.cluster.Now
	opts := n.byToken(t)
	opts.CertificateKey = key
	j, err := Prepare(t.Context(), c, nil, n.joiners, opts)
	if err != nil {
		t.Fatal(err)
	}
	f := n.fakes["cp-2"]
	f.OnPrefix("sh", "-c") // the survey of preflight, which finds nothing
	runner := workflow.Runner{Only: []string{"preflight"}}
	_, err = runner.Run(t.Context(), Steps(c, n.joiners, nil, j, opts)...)
	var refused *phases.PreflightError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "/etc/audit.yaml is not there") || !strings.Contains(err.Error(), "myadm apply -f") {
		t.Errorf("got %v", err)
	}
	if len(f.Writes()) > 0 {
		t.Errorf("wrote %q", f.Writes())
	}
}
