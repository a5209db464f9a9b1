package upgrade

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd/etcdtest"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

// surveyedSite is a control plane with a real etcd and an API server in memory, and a worker that cannot be asked.
func surveyedSite(t *testing.T) (*cluster.Cluster, *kubetest.Server, *hosttest.Rule) {
	member := etcdtest.NewTLS(t).Start("cp-1")
	node := func(name string, labels map[string]string) *corev1.Node {
		return &corev1.Node{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
			Status: corev1.NodeStatus{
				NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: oldVersion, ContainerRuntimeVersion: "containerd://2.4.2"},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
		}
	}
	system := func(apiVersion, kind, name string, fields map[string]any) *unstructured.Unstructured {
		fields["apiVersion"], fields["kind"] = apiVersion, kind
		fields["metadata"] = map[string]any{"namespace": "kube-system", "name": name}
		return &unstructured.Unstructured{Object: fields}
	}
	addon := func(kind, name, image string) *unstructured.Unstructured {
		return system("apps/v1", kind, name, addonOf(name, image).workload.found.DeepCopy().Object)
	}
	images := imagesAt(t, oldVersion)
	server := kubetest.NewServer(t,
		node("cp-1", map[string]string{"node-role.kubernetes.io/control-plane": ""}), node("w-1", nil),
		system("v1", "ConfigMap", "kubeadm-config", map[string]any{"data": map[string]any{
			"ClusterConfiguration": "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nclusterName: prod\nkubernetesVersion: v1.36.3\n",
		}}),
		system("v1", "ConfigMap", "coredns", map[string]any{"data": map[string]any{"Corefile": ".:53 {\n}\n"}}),
		addon("Deployment", "coredns", images.CoreDNS), addon("DaemonSet", "kube-proxy", images.Proxy),
		budget("db", 0, 2), budget("web", 1, 2), budget("gone", 0, 0),
		&corev1.Pod{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db-0", Labels: map[string]string{"app": "db"}},
			Spec: corev1.PodSpec{NodeName: "w-1"},
		},
	)
	server.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/metrics" {
			fmt.Fprint(w, metrics)
		}
		return r.URL.Path == "/metrics"
	}
	cp, w := hosttest.New(t, "cp-1"), hosttest.New(t, "w-1")
	for path, data := range member.PKI() {
		cp.Put(host.File{Path: path, Mode: 0o600, Data: data})
	}
	cp.Delete(config.SuperAdminConf)
	api := net.JoinHostPort(member.Address.String(), "6443")
	cp.Put(host.File{Path: config.AdminConf, Mode: 0o600, Data: fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "https://%s", tls-server-name: example.com, certificate-authority-data: %s}}]
users: [{name: a, user: {token: a}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
`, api, base64.StdEncoding.EncodeToString(server.CA()))})
	answer := strings.TrimPrefix(surveyed, "Welcome to cp-1!\n")
	for _, name := range componentOrder {
		manifest := manifestOf(name, imageFor(name, images), "--v=2")
		cp.Put(host.File{Path: config.ManifestsDir + "/" + name + ".yaml", Mode: 0o600, Data: manifest})
		answer += encoded(config.ManifestsDir+"/"+name+".yaml", string(manifest))
	}
	for _, f := range []*hosttest.Fake{cp, w} {
		f.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
			switch address {
			case api:
				address = server.Address()
			case net.JoinHostPort(member.Address.String(), "2379"):
			default:
				return nil, errors.New("connection refused")
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		})
	}
	asked := cp.OnPrefix("sh", "-c", surveyScript, "sh", config.EtcdDataDir, config.ContainerdSocket).Return(answer)
	w.OnPrefix("sh", "-c", surveyScript).Error(errors.New("connection lost"))
	cfg := &config.Cluster{}
	cfg.Spec.Hosts = []config.Host{
		{Name: "cp-1", AdvertiseAddress: member.Address.String(), Roles: []config.Role{config.RoleControlPlane}},
		{Name: "w-1", AdvertiseAddress: "10.0.0.2", Roles: []config.Role{config.RoleWorker}},
	}
	config.SetDefaults(cfg)
	cfg.Spec.KubernetesVersion = newVersion
	c := &cluster.Cluster{
		Config: cfg, Now: time.Now,
		Nodes: []*cluster.Node{{Host: cp, Spec: cfg.Spec.Hosts[0], Facts: cluster.Facts{Arch: "amd64"}}, {Host: w, Spec: cfg.Spec.Hosts[1]}},
	}
	t.Cleanup(func() { c.Close() })
	return c, server, asked
}

func budget(name string, allowed, expected int32) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		TypeMeta: metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:   policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}},
		Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed, ExpectedPods: expected},
	}
}

func TestSurvey(t *testing.T) {
	c, server, asked := surveyedSite(t)
	document, before := c.Config, server.Version()
	s, err := Survey(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Unknown) > 0 {
		t.Errorf("not answered: %v", s.Unknown)
	}
	if c.Config != document || c.Config.Spec.KubernetesVersion != newVersion || server.Version() != before {
		t.Error("a look has changed something")
	}
	if asked.Calls() != 1 {
		t.Errorf("the host was asked %d times", asked.Calls())
	}
	if s.Version() != oldVersion || s.From() != oldVersion {
		t.Errorf("version %s, from %s", s.Version(), s.From())
	}
	cp, w := s.Host("cp-1"), s.Host("w-1")
	if !cp.ControlPlane || cp.Arch != "amd64" || cp.EtcdDir != config.EtcdDataDir || len(cp.Manifests) != 4 || cp.Err != nil {
		t.Errorf("cp-1: %+v", cp)
	}
	if w.Err == nil || !strings.Contains(w.Err.Error(), "connection lost") {
		t.Errorf("w-1: %v", w.Err)
	}
	if n := s.node("w-1"); n == nil || n.Runtime != "containerd://2.4.2" || !n.Ready {
		t.Errorf("node %+v", n)
	}
	images := imagesAt(t, oldVersion)
	if len(s.Addons) != 2 || s.Addons[0].Image != images.CoreDNS || s.Addons[1].Image != images.Proxy || !strings.Contains(s.Config["coredns/Corefile"], ":53") {
		t.Errorf("addons %+v, %v", s.Addons, s.Config)
	}
	if len(s.Budgets) != 1 || s.Budgets[0].Name != "db" || !slices.Equal(s.Budgets[0].Nodes, []string{"w-1"}) {
		t.Errorf("budgets %+v", s.Budgets)
	}
	if len(s.Requested) != 2 || s.Requested[1].String() != "policy/v1beta1 poddisruptionbudgets" || !slices.Equal(s.Requested[1].Hosts, []string{"cp-1"}) {
		t.Errorf("deprecated %+v", s.Requested)
	}
	// What the survey found is what the upgrade would go by.
	to, err := TargetOf(c, newVersion, false)
	if err != nil {
		t.Fatal(err)
	}
	if p := MakePlan(s, to); p.From != oldVersion || p.Changes != 6+2+1+len(p.Rights) || !slices.Contains(p.Rights, "ClusterRole kubeadm:get-nodes") {
		t.Errorf("from %s with %d changes: %+v", p.From, p.Changes, p)
	}
}

// What the load balancers of the document lack is part of what is found.
func TestSurveyLooksAtLoadBalancers(t *testing.T) {
	for balancer, want := range map[string]bool{config.LoadBalancerNodeLocal: true, config.LoadBalancerExternal: false} {
		c, _, _ := surveyedSite(t)
		c.Config.Spec.LoadBalancer.Type = balancer
		s, err := Survey(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range s.Hosts {
			lacks := func(c workflow.Change) bool { return c.Object == manifests.HAProxyConfigPath }
			if slices.ContainsFunc(h.LoadBalancer, lacks) != want {
				t.Errorf("%s: %s lacks %+v, %v", balancer, h.Name, h.LoadBalancer, h.Err)
			}
		}
	}
}

func TestSurveyWithoutTheAPI(t *testing.T) {
	c, server, _ := surveyedSite(t)
	server.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	s, err := Survey(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range Findings(s, targetAt(t, newVersion)) {
		names[f.Name] = f.Fatal
	}
	if s.From() != oldVersion || len(s.Addons) > 0 || !names["api-server"] || !names["control-plane-health"] {
		t.Errorf("from %q, findings %v", s.From(), names)
	}
}

func TestSurveyWithoutACluster(t *testing.T) {
	c, _, _ := surveyedSite(t)
	c.Nodes[0].Host.(*hosttest.Fake).Delete(config.AdminConf)
	if _, err := Survey(t.Context(), c); !errors.Is(err, cluster.ErrNoCluster) {
		t.Errorf("got %v", err)
	}
}

// Everything that is against an upgrade is said at once; what is ignored is a warning.
func TestPreflight(t *testing.T) {
	s := wellAt(t, oldVersion)
	s.Report.Nodes[0].Ready = false
	s.Report.ControlPlanes[0].Certificates[0].Expires = surveyTime
	s.Budgets = []Budget{{"shop", "db", nil}}
	c := &cluster.Cluster{Config: &config.Cluster{}}
	config.SetDefaults(c.Config)
	refusal := func(ignore ...string) (names, warnings []string) {
		phase := Preflight(c, PreflightOptions{Target: newVersion, State: s, Ignore: ignore})
		runner := workflow.Runner{Report: func(e workflow.Event) {
			if e.Kind == workflow.Warning {
				warnings = append(warnings, e.Message)
			}
		}}
		_, err := runner.Run(t.Context(), phase)
		var refused *phases.PreflightError
		if errors.As(err, &refused) {
			for _, f := range refused.Findings {
				names = append(names, f.Name)
			}
		} else if err != nil {
			t.Error(err)
		}
		return names, warnings
	}
	names, warnings := refusal()
	if want := []string{"node-not-ready", "certificate-expired"}; !slices.Equal(names, want) {
		t.Errorf("refused for %v", names)
	}
	if !slices.ContainsFunc(warnings, func(w string) bool { return strings.HasPrefix(w, "[disruption-budget] shop/db: ") }) {
		t.Errorf("warnings %q", warnings)
	}
	if names, _ := refusal("node-not-READY"); !slices.Equal(names, []string{"certificate-expired"}) {
		t.Errorf("refused for %v", names)
	}
	if names, _ := refusal("all"); len(names) > 0 {
		t.Errorf("refused for %v", names)
	}
}

// Where hosts follow the document, it does not matter that they run with something the new version refuses, if the document
// has it no longer; and what the document has matters.
func TestPreflightGoesByTheDocument(t *testing.T) {
	gate := removals["v1.37"].gates[0]
	with := func(gates map[string]any) map[string]any { return map[string]any{"featureGates": gates} }
	for _, tt := range []struct {
		name     string
		kubelet  map[string]any
		document bool
		refused  bool
	}{
		{"a version alone", with(nil), false, true},
		{"the document drops it", with(nil), true, false},
		{"the document has it", with(map[string]any{gate: true}), true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, "w-1")
			r.Config.Spec.Kubelet = tt.kubelet
			s := wellAt(t, oldVersion)
			w := *s.Host("w-1")
			w.Kubelet = []byte("featureGates:\n  " + gate + ": true\n")
			s.Hosts = []HostState{w}
			c := r.Of(r.Nodes[1:])
			var runner workflow.Runner
			_, err := runner.Run(t.Context(), Preflight(c, PreflightOptions{Target: newVersion, State: s, Document: tt.document}))
			var refused *phases.PreflightError
			named := errors.As(err, &refused) && slices.ContainsFunc(refused.Findings, func(f phases.Finding) bool { return f.Name == findingGate })
			if named != tt.refused {
				t.Errorf("refused for the gate: %t, %v", named, err)
			}
		})
	}
}

// What may pass by itself is waited for, as after a host's loss of power. Anything else is refused at once.
func TestPreflightWaitsForWhatSettles(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(s *State)
		mends  bool
		took   time.Duration
		names  []string
	}{
		{"it comes back", func(s *State) { s.Report.Nodes[0].Ready = false }, true, settlePause, nil},
		{"it does not", func(s *State) { s.Report.Nodes[0].Ready = false }, false, 5 * settlePause, []string{findingReady}},
		{"it would not help", func(s *State) {
			s.Report.Nodes[0].Ready = false
			s.Report.ControlPlanes[0].Certificates[0].Expires = surveyTime
		}, false, 0, []string{findingReady, findingExpired}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := wellAt(t, oldVersion)
				tt.damage(s)
				c := &cluster.Cluster{Config: &config.Cluster{}}
				config.SetDefaults(c.Config)
				runner := workflow.Runner{Report: func(e workflow.Event) {
					if tt.mends && strings.HasPrefix(e.Message, "wait: ") {
						s.Report.Nodes[0].Ready = true
					}
				}}
				began := time.Now()
				_, err := runner.Run(t.Context(), Preflight(c, PreflightOptions{Target: newVersion, State: s, Settle: 5 * settlePause}))
				if took := time.Since(began); took != tt.took {
					t.Errorf("it took %s, want %s", took, tt.took)
				}
				var names []string
				if refused := (*phases.PreflightError)(nil); errors.As(err, &refused) {
					for _, f := range refused.Findings {
						names = append(names, f.Name)
					}
				}
				if !slices.Equal(names, tt.names) {
					t.Errorf("refused for %q: %v", names, err)
				}
			})
		})
	}
}
