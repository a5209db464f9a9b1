package upgrade

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

const (
	oldVersion = "v1.36.3"
	newVersion = "v1.37.2"
)

// upgradable is a cluster at the old version, with what init leaves in it, that is to come to the new one. Its API server
// is a test's. mutate, if not nil, plays the server's controllers.
func upgradable(t *testing.T, mutate func(obj *unstructured.Unstructured)) (*cluster.Cluster, *kubetest.Server) {
	t.Helper()
	s := kubetest.NewServer(t)
	s.Mutate = mutate
	cfg := &config.Cluster{}
	cfg.Spec.KubernetesVersion = oldVersion
	cfg.Spec.Hosts = []config.Host{{Name: "cp-1", Address: "10.0.0.1", AdvertiseAddress: "10.0.0.1", Roles: []config.Role{config.RoleControlPlane}}}
	config.SetDefaults(cfg)
	f := hosttest.New(t, "cp-1")
	f.Put(host.File{Path: config.SuperAdminConf, Mode: 0o600, Data: s.Kubeconfig()})
	f.OnDial(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Address())
	})
	c := &cluster.Cluster{Config: cfg, Nodes: []*cluster.Node{{Host: f, Spec: cfg.Spec.Hosts[0]}}, Version: "test"}
	t.Cleanup(func() {
		if client, err := c.Kube(context.Background()); err == nil {
			client.Close()
		}
	})
	bootstrap, err := manifests.BootstrapRBAC()
	if err != nil {
		t.Fatal(err)
	}
	perform(t, phases.UploadConfig(c), phases.Addons(c))
	client, err := c.Kube(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Apply(t.Context(), bootstrap); err != nil {
		t.Fatal(err)
	}
	cfg.Spec.KubernetesVersion = newVersion
	return c, s
}

func perform(t *testing.T, steps ...workflow.Step) workflow.Summary {
	t.Helper()
	summary, err := new(workflow.Runner).Run(t.Context(), steps...)
	if err != nil {
		t.Fatal(err)
	}
	return summary
}

// pending is what a phase on the cluster would change, each as "ACTION OBJECT: DETAIL". It fails the test if finding out
// changes something.
func pending(t *testing.T, s *kubetest.Server, p workflow.Phase) []string {
	t.Helper()
	before := s.Version()
	changes, err := p.Check(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Version() != before {
		t.Error("the check has changed something")
	}
	var texts []string
	for _, c := range changes {
		texts = append(texts, strings.TrimSuffix(string(c.Action)+" "+c.Object+": "+c.Detail, ": "))
	}
	return texts
}

// settles fails the test if a phase that has run has more to do.
func settles(t *testing.T, s *kubetest.Server, p workflow.Phase) {
	t.Helper()
	before := s.Version()
	if summary := perform(t, p); summary.Changes != 0 || s.Version() != before {
		t.Errorf("running it again makes %d changes, from version %d to %d", summary.Changes, before, s.Version())
	}
}

func put(t *testing.T, s *kubetest.Server, ref kube.Ref, value any, fields ...string) {
	t.Helper()
	o := s.Object(ref)
	if err := unstructured.SetNestedField(o.Object, value, fields...); err != nil {
		t.Fatal(err)
	}
	s.Put(t, o)
}

func text(t *testing.T, s *kubetest.Server, ref kube.Ref, fields ...string) string {
	t.Helper()
	value, _, err := unstructured.NestedString(s.Object(ref).Object, fields...)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func rbac(kind, namespace, name string) kube.Ref {
	return kube.Ref{APIVersion: "rbac.authorization.k8s.io/v1", Kind: kind, Namespace: namespace, Name: name}
}

var (
	kubeadmConfig = kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: "kubeadm-config"}
	kubeletConfig = kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: "kubelet-config"}
)

// Only the version changes. What the user and other releases of kubeadm have written stays, to the letter.
func TestUploadConfig(t *testing.T) {
	c, s := upgradable(t, nil)
	was := "# mine\n" + strings.Replace(text(t, s, kubeadmConfig, "data", "ClusterConfiguration"), "featureGates", "own", 1) + "zeta: {own: 1}  # unknown\n"
	put(t, s, kubeadmConfig, was, "data", "ClusterConfiguration")
	put(t, s, kubeadmConfig, "kept", "data", "another")
	put(t, s, kubeletConfig, "kind: KubeletConfiguration\nmaxPods: 7\n", "data", "kubelet")
	p := UploadConfig(c)
	want := []string{"update ConfigMap kube-system/kubeadm-config: kubernetesVersion: v1.37.2"}
	if diff := cmp.Diff(want, pending(t, s, p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	before := s.Version()
	perform(t, p)
	if s.Version() != before+1 {
		t.Errorf("%d writes, want the one", s.Version()-before)
	}
	if diff := cmp.Diff(strings.Replace(was, oldVersion, newVersion, 1), text(t, s, kubeadmConfig, "data", "ClusterConfiguration")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if text(t, s, kubeadmConfig, "data", "another") != "kept" || text(t, s, kubeletConfig, "data", "kubelet") != "kind: KubeletConfiguration\nmaxPods: 7\n" {
		t.Error("what the user has written is gone")
	}
	settles(t, s, p)
}

// Rights that are missing are given, and none that the user has added is taken. What strangers may not read stays so.
func TestUploadConfigGivesRights(t *testing.T) {
	c, s := upgradable(t, nil)
	p := UploadConfig(c)
	perform(t, p)
	config, nodes, certs := rbac("RoleBinding", "kube-system", "kubeadm:nodes-kubeadm-config"), rbac("ClusterRole", "", "kubeadm:get-nodes"), rbac("Role", "kube-system", "kubeadm:kubeadm-certs")
	mine := map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mine"}
	put(t, s, config, []any{mine}, "subjects")
	put(t, s, nodes, []any{}, "rules")
	s.Remove(certs)
	for _, kind := range []string{"Role", "RoleBinding"} {
		s.Remove(rbac(kind, "kube-public", "kubeadm:bootstrap-signer-clusterinfo"))
	}
	want := []string{
		"update RoleBinding kube-system/kubeadm:nodes-kubeadm-config: subjects",
		"create Role kube-system/kubeadm:kubeadm-certs",
		"update ClusterRole kubeadm:get-nodes: rules",
	}
	if diff := cmp.Diff(want, pending(t, s, p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	perform(t, p)
	subjects, _, _ := unstructured.NestedSlice(s.Object(config).Object, "subjects")
	if len(subjects) != 3 || !cmp.Equal(subjects[0], any(mine)) {
		t.Errorf("its subjects are %v", subjects)
	}
	settles(t, s, p)
}

func TestUploadConfigOfWhatIsNone(t *testing.T) {
	c, s := upgradable(t, nil)
	put(t, s, kubeadmConfig, "kind: Other", "data", "ClusterConfiguration")
	before := s.Version()
	_, err := new(workflow.Runner).Run(t.Context(), UploadConfig(c))
	if err == nil || !strings.Contains(err.Error(), "kubeadm-config") || s.Version() != before {
		t.Errorf("got %v, and version %d, want %d", err, s.Version(), before)
	}
}
