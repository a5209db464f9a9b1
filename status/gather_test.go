package status

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/etcd/etcdtest"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/kube/kubetest"
)

// site is a control plane and a worker that their own programs answer for: a real etcd, an API server in memory, and
// servers that are as ill as a test wants.
type site struct {
	t       *testing.T
	c       *cluster.Cluster
	api     *kubetest.Server
	members *etcdtest.Cluster
	member  *etcdtest.Member
	cp, w   *hosttest.Fake

	mu      sync.Mutex
	refused map[string]bool // addresses, as host names and addresses: "w-1 127.0.0.1:6444"
	ill     map[string]bool // paths of components
}

func newSite(t *testing.T) *site {
	s := &site{t: t, refused: map[string]bool{}, ill: map[string]bool{}}
	s.members = etcdtest.NewTLS(t)
	s.member = s.members.Start("cp-1")
	s.api = kubetest.NewServer(t,
		s.node("cp-1", corev1.ConditionTrue, map[string]string{"node-role.kubernetes.io/control-plane": ""}),
		s.node("w-1", corev1.ConditionTrue, nil),
		settings("kubeadm-config", map[string]string{"ClusterConfiguration": `apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: prod
kubernetesVersion: v1.37.2
networking: {serviceSubnet: 10.96.0.0/16}
etcd: {local: {dataDir: /var/lib/etcd}}
`}),
		settings("myadm-config", map[string]string{
			"loadBalancer": "{type: node-local, port: 6444, routerID: 51}", "apiServers": "10.0.0.1:7443",
		}),
	)
	s.cp, s.w = hosttest.New(t, "cp-1"), hosttest.New(t, "w-1")
	for path, data := range s.member.PKI() {
		s.cp.Put(host.File{Path: path, Mode: 0o600, Data: data})
	}
	s.cp.Delete(config.SuperAdminConf)
	for _, key := range []string{"ca.key", "sa.key"} { // nobody has a reason to read them, and a folder cannot be
		s.cp.Delete(config.PKIDir + "/" + key)
		s.cp.Mkdir(config.PKIDir+"/"+key, 0o700)
	}
	s.cp.Put(host.File{Path: config.AdminConf, Mode: 0o600, Data: fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "https://%s:7443", tls-server-name: example.com, certificate-authority-data: %s}}]
users: [{name: a, user: {token: a}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
`, s.member.Address, base64.StdEncoding.EncodeToString(s.api.CA()))})
	for _, name := range staticPods {
		s.cp.Put(host.File{Path: "/etc/kubernetes/manifests/" + name + ".yaml", Mode: 0o600,
			Data: fmt.Appendf(nil, "spec: {containers: [{image: 'registry.k8s.io/%s:v1.37.2'}]}", name)})
	}
	plain, secure := httptest.NewServer(s), httptest.NewTLSServer(s)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	etcdAt := net.JoinHostPort(s.member.Address.String(), "2379")
	ways := map[string]string{
		net.JoinHostPort(s.member.Address.String(), "6443"): s.api.Address(), // where the document has it
		net.JoinHostPort(s.member.Address.String(), "7443"): s.api.Address(),
		"127.0.0.1:6444":  s.api.Address(),
		"127.0.0.1:2381":  plain.Listener.Addr().String(),
		"127.0.0.1:10257": secure.Listener.Addr().String(),
		"127.0.0.1:10259": secure.Listener.Addr().String(),
		etcdAt:            etcdAt,
	}
	for _, f := range []*hosttest.Fake{s.cp, s.w} {
		f.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
			to, known := ways[address]
			s.mu.Lock()
			defer s.mu.Unlock()
			if !known || s.refused[f.Name()+" "+address] {
				return nil, errors.New("connection refused")
			}
			return new(net.Dialer).DialContext(ctx, network, to)
		})
	}
	cfg := &config.Cluster{}
	cfg.Metadata.Name = "of-the-document"
	cfg.Spec.Hosts = []config.Host{
		{Name: "cp-1", AdvertiseAddress: s.member.Address.String(), Roles: []config.Role{config.RoleControlPlane}},
		{Name: "w-1", AdvertiseAddress: "10.0.0.2"},
	}
	config.SetDefaults(cfg)
	s.c = &cluster.Cluster{
		Config: cfg,
		Nodes:  []*cluster.Node{{Host: s.cp, Spec: cfg.Spec.Hosts[0]}, {Host: s.w, Spec: cfg.Spec.Hosts[1]}},
		Now:    func() time.Time { return time.Now().Add(-60 * 24 * time.Hour) }, // the certificates serve for an hour from today
	}
	t.Cleanup(func() { s.c.Close() })
	return s
}

// ServeHTTP answers for etcd's health, the controller manager and the scheduler.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ill[r.Host+r.URL.Path] {
		http.Error(w, "ill", http.StatusInternalServerError)
	}
}

// refuse lets nobody in at an address, as seen from a host.
func (s *site) refuse(host, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[host+" "+address] = true
}

func (s *site) node(name string, ready corev1.ConditionStatus, labels map[string]string) *corev1.Node {
	n := &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Status: corev1.NodeStatus{
			NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.37.2"},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: "10.0.0.7"}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Message: "said by the kubelet"}},
		},
	}
	if labels != nil {
		n.Spec.Taints = []corev1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}}
	}
	return n
}

func settings(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name},
		Data:       data,
	}
}

func (s *site) gather() *Report {
	s.t.Helper()
	r, err := Gather(s.t.Context(), s.c)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// objects are what a report warns of.
func objects(r *Report) []string {
	var list []string
	for _, w := range r.Warnings {
		list = append(list, w.Object+": "+w.Message)
	}
	return list
}

func TestGather(t *testing.T) {
	s := newSite(t)
	r := s.gather()
	if !r.Healthy || len(r.Warnings) > 0 {
		t.Errorf("warnings %q", objects(r))
	}
	if r.Name != "prod" || r.KubernetesVersion != "v1.37.2" {
		t.Errorf("cluster %s %s", r.Name, r.KubernetesVersion)
	}
	wantEndpoint := Endpoint{
		Address: s.member.Address.String() + ":7443", NodeAddress: "127.0.0.1:6444", LoadBalancer: "node-local",
		Answers: []Answer{{Host: "cp-1", OK: true}, {Host: "w-1", OK: true}},
	}
	if diff := cmp.Diff(wantEndpoint, r.Endpoint); diff != "" {
		t.Errorf("endpoint (-want +got):\n%s", diff)
	}
	wantNodes := []Node{
		{Name: "cp-1", Roles: []string{"control-plane"}, Registered: true, Ready: true, KubeletVersion: "v1.37.2", Address: "10.0.0.7", Reached: true},
		{Name: "w-1", Roles: []string{"worker"}, Registered: true, Ready: true, KubeletVersion: "v1.37.2", Address: "10.0.0.7", Reached: true},
	}
	if diff := cmp.Diff(wantNodes, r.Nodes); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if len(r.ControlPlanes) != 1 {
		t.Fatalf("control planes %+v", r.ControlPlanes)
	}
	p := r.ControlPlanes[0]
	wantComponents := []Component{
		{Name: "etcd", Version: "v1.37.2", Healthy: true}, {Name: "kube-apiserver", Version: "v1.37.2", Healthy: true},
		{Name: "kube-controller-manager", Version: "v1.37.2", Healthy: true}, {Name: "kube-scheduler", Version: "v1.37.2", Healthy: true},
	}
	if diff := cmp.Diff(wantComponents, p.Components); p.Name != "cp-1" || diff != "" {
		t.Errorf("%s (-want +got):\n%s", p.Name, diff)
	}
	names := map[string]bool{}
	for _, c := range p.Certificates {
		names[c.Name] = true
		if left := time.Until(c.Expires); left < 0 || left > time.Hour {
			t.Errorf("certificate %s ends at %s", c.Name, c.Expires)
		}
	}
	if len(p.Certificates) != 13 || !names["ca"] || !names["etcd-peer"] || !names["kubelet.conf"] {
		t.Errorf("certificates %v", names)
	}
	if e := r.Etcd; !e.Quorum || e.External || e.FaultTolerance != 0 || len(e.Members) != 1 || e.Members[0].Role != leader || e.Members[0].Name != "cp-1" || e.Members[0].Lag == nil {
		t.Errorf("etcd %+v", e)
	}
}

// Whoever reads the JSON finds lists where lists are told.
func TestListsAreNeverNull(t *testing.T) {
	s := newSite(t)
	alone := &cluster.Cluster{Config: s.c.Config, Now: s.c.Now, Missing: []cluster.Missing{{Spec: s.c.Config.Spec.Hosts[0], Err: errors.New("no route")}}}
	alone.Config.Spec.Hosts = alone.Config.Spec.Hosts[:1]
	empty, err := Gather(t.Context(), alone)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*Report{s.gather(), empty} {
		data, err := json.Marshal(r)
		if err != nil || strings.Contains(string(data), "null") {
			t.Errorf("%s, %v", data, err)
		}
	}
}

// What is ill is told beside what is well.
func TestGatherOfAClusterThatIsIll(t *testing.T) {
	s := newSite(t)
	s.api.Put(t, s.node("w-1", corev1.ConditionUnknown, nil))
	s.api.SetHealth("/readyz", "[+]ping ok\n[-]etcd failed: reason withheld\n")
	s.ill["127.0.0.1:10259/livez"] = true
	s.refuse("cp-1", "127.0.0.1:2381")
	s.refuse("w-1", "127.0.0.1:6444")
	s.c.Missing = []cluster.Missing{{Spec: config.Host{Address: "10.0.0.9"}, Err: errors.New("10.0.0.9: no route to host")}}
	s.cp.Put(host.File{Path: config.ControllerManagerConf, Mode: 0o600, Data: []byte("[")})
	s.c.Config.Spec.Hosts = append(s.c.Config.Spec.Hosts, config.Host{Name: "w-2", Roles: []config.Role{config.RoleWorker}}, config.Host{Address: "10.0.0.9"})
	r := s.gather()
	want := []string{
		"host 10.0.0.9: was not reached: no route to host",
		"node w-1: is not Ready: said by the kubelet",
		"node w-2: is in the document, and no node of the cluster",
		"control plane cp-1: etcd is not healthy: ",
		"control plane cp-1: kube-apiserver is not healthy: /readyz: not ok yet: etcd",
		"control plane cp-1: kube-scheduler is not healthy: /livez answers 500 Internal Server Error",
		"control plane cp-1: certificates cannot be read: /etc/kubernetes/controller-manager.conf: not a kubeconfig",
		"endpoint 127.0.0.1:6444: does not answer on cp-1: /readyz: not ok yet: etcd",
		"endpoint 127.0.0.1:6444: does not answer on w-1: ",
	}
	if got := objects(r); r.Healthy || !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("warnings\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
	if len(r.ControlPlanes[0].Certificates) != 12 {
		t.Errorf("certificates %+v", r.ControlPlanes[0].Certificates)
	}
}

func TestGatherWithoutTheAPI(t *testing.T) {
	s := newSite(t)
	s.refuse("cp-1", net.JoinHostPort(s.member.Address.String(), "7443"))
	r := s.gather()
	if r.APIError == "" || r.Name != "of-the-document" || r.KubernetesVersion != "" {
		t.Errorf("%s: %q", r.Name, r.APIError)
	}
	var states []string
	for _, n := range r.Nodes {
		states = append(states, fmt.Sprint(n.Name, n.Roles, n.Registered, n.Ready, n.Reached))
	}
	if want := []string{"cp-1[control-plane] false false true", "w-1[worker] false false true"}; !slices.Equal(states, want) {
		t.Errorf("nodes %q", states)
	}
	if !r.Etcd.Quorum || len(r.ControlPlanes) != 1 || !r.ControlPlanes[0].Components[3].Healthy {
		t.Errorf("etcd %+v, control planes %+v", r.Etcd, r.ControlPlanes)
	}
	if r.Endpoint.LoadBalancer != "none" { // as the document says
		t.Errorf("endpoint %+v", r.Endpoint)
	}
}

// Without anonymous requests, to be turned away is an answer, and the administrator is told more.
func TestGatherWithoutAnonymousRequests(t *testing.T) {
	s := newSite(t)
	s.api.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	}
	if r := s.gather(); !r.Healthy {
		t.Errorf("warnings %q", objects(r))
	}
}

// A host that a flag names may be a worker: what stands on it and the API say so.
func TestGatherOfAWorkerThatAFlagNames(t *testing.T) {
	s := newSite(t)
	s.c.Config.Spec.Hosts[1].Roles = []config.Role{config.RoleControlPlane}
	s.c.Nodes[1].Spec = s.c.Config.Spec.Hosts[1]
	r := s.gather()
	if !r.Healthy || len(r.ControlPlanes) != 1 || r.Nodes[1].Roles[0] != "worker" {
		t.Errorf("warnings %q, %d control planes", objects(r), len(r.ControlPlanes))
	}
}

// A cluster that kubeadm made has no word of myadm's on load balancers.
func TestGatherOfKubeadmsCluster(t *testing.T) {
	s := newSite(t)
	s.api.Put(t, settings("kubeadm-config", map[string]string{
		"ClusterConfiguration": "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nclusterName: theirs\ncontrolPlaneEndpoint: 127.0.0.1:6444\n",
	}))
	s.api.Put(t, settings("myadm-config", nil))
	r := s.gather()
	if !r.Healthy || r.Name != "theirs" || r.Endpoint.Address != "127.0.0.1:6444" || r.Endpoint.LoadBalancer != "external" {
		t.Errorf("%s at %+v, warnings %q", r.Name, r.Endpoint, objects(r))
	}
}

func TestGatherWithoutQuorum(t *testing.T) {
	s := newSite(t)
	client, err := s.c.Etcd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	two := s.members.Member("cp-2")
	learner, err := client.AddLearner(t.Context(), two.PeerURL())
	if err != nil {
		t.Fatal(err)
	}
	two.Start(s.member)
	if err := client.Promote(t.Context(), learner.ID); err != nil {
		t.Fatal(err)
	}
	two.Stop()
	for { // the one that is left notices when an election is due
		status, err := client.Status(t.Context(), s.member.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		if status.Leader == 0 {
			break
		}
	}
	r := s.gather()
	var got []string
	for _, m := range r.Etcd.Members {
		got = append(got, m.Name+" "+m.Health)
	}
	if want := []string{"cp-1 " + etcdErrors(t, client, s.member.ClientURL()), "cp-2 no answer"}; r.Etcd.Quorum || !slices.Equal(got, want) {
		t.Errorf("quorum %t, members %q, want %q", r.Etcd.Quorum, got, want)
	}
}

// etcdErrors are what a member complains of.
func etcdErrors(t *testing.T, r etcd.Reader, endpoint string) string {
	t.Helper()
	s, err := r.Status(t.Context(), endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(s.Errors, ", ")
}

func TestGatherWithoutACluster(t *testing.T) {
	blank := func() *cluster.Cluster {
		cfg := &config.Cluster{}
		cfg.Spec.Hosts = []config.Host{{Name: "cp-1", AdvertiseAddress: "10.0.0.1", Roles: []config.Role{config.RoleControlPlane}}}
		config.SetDefaults(cfg)
		f := hosttest.New(t, "cp-1")
		f.OnDial(func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") })
		return &cluster.Cluster{Config: cfg, Nodes: []*cluster.Node{{Host: f, Spec: cfg.Spec.Hosts[0]}}, Now: time.Now}
	}
	if _, err := Gather(t.Context(), blank()); !errors.Is(err, cluster.ErrNoCluster) {
		t.Errorf("got %v, want ErrNoCluster", err)
	}
	// Another control plane may have one.
	c := blank()
	c.Missing = []cluster.Missing{{Spec: config.Host{Name: "cp-2", Roles: []config.Role{config.RoleControlPlane}}, Err: errors.New("no route")}}
	r, err := Gather(t.Context(), c)
	if err != nil || r.APIError != errUnreached.Error() || r.Etcd.Error != errUnreached.Error() {
		t.Errorf("%+v, %v", r, err)
	}
	ended, end := context.WithCancelCause(t.Context())
	end(errors.New("enough"))
	if _, err := Gather(ended, blank()); err == nil || err.Error() != "enough" {
		t.Errorf("after its context: %v", err)
	}
}
