package upgrade

import (
	"context"
	"crypto/rand"
	"crypto/tls"
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

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/etcd/etcdtest"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

// errCut is what hosts say to everything after a run was killed.
var errCut = errors.New("cut off")

// quorum is the etcd of a fleet: real, and with a member for each control plane. It serves one fleet after the other, since
// nothing that they do to their etcd reaches it.
type quorum struct {
	members []*etcdtest.Member
	pki     certs.Files // its authority
}

// newQuorum starts a member for each of the names.
func newQuorum(t *testing.T, names ...string) *quorum {
	t.Helper()
	all := etcdtest.NewTLS(t)
	all.Tune = func(cfg *embed.Config) { cfg.StrictReconfigCheck = false }
	q := &quorum{members: []*etcdtest.Member{all.Start(names[0])}}
	client, err := etcd.Connect(etcd.Options{Endpoints: []string{q.members[0].ClientURL()}, TLS: q.members[0].ClientTLS()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, name := range names[1:] {
		m := all.Member(name)
		learner, err := client.AddLearner(t.Context(), m.PeerURL())
		if err != nil {
			t.Fatal(err)
		}
		m.Start(q.members...)
		if err := client.Promote(t.Context(), learner.ID); err != nil {
			t.Fatal(err)
		}
		q.members = append(q.members, m)
	}
	q.pki = certs.Files{}
	for path, data := range q.members[0].PKI() {
		if strings.HasPrefix(path, config.PKIDir+"/etcd/ca.") {
			q.pki[path] = data
		}
	}
	return q
}

// fleet is a finished cluster of myadm's behind node-local load balancers: hosts that are the strict fake with a systemd, a
// kubelet and static pods, API servers with the PKI of their hosts, and a quorum of etcd. It can be cut between any two
// things that are done to its hosts.
type fleet struct {
	*cluster.Cluster
	t      *testing.T
	api    *kubetest.Server
	client string // where the two clients of the API servers, on all hosts, tell of their health
	hosts  []*fleetHost

	mu    sync.Mutex
	done  []string // what was done to hosts, in order, as "HOST: WHAT"
	left  int      // things that can be done before the run ends; negative: any number
	steps int      // steps of exchanges that can be done before the host that makes one loses its power; negative: any number
	taken int      // steps of exchanges that were
	end   func()   // ends the run: by its context, for what is killed has no time for more
	kill  bool     // the end is the end of all; else it is a user's, who waits until the run has tidied up
	late  bool     // the last thing is done, and nobody hears of it
}

// newFleet makes a cluster of a control plane for each member of the quorum and of two workers. edit may change its document.
func newFleet(t *testing.T, q *quorum, edit func(*config.Spec)) *fleet {
	t.Helper()
	f := &fleet{t: t, api: kubetest.NewServer(t), left: -1, steps: -1, end: func() {}}
	own := q.members[0].ClientTLS().Certificates[0]
	f.client = f.api.Listen(t, func() (*tls.Certificate, error) { return &own, nil })
	cfg := &config.Cluster{}
	cfg.Spec.KubernetesVersion = newVersion
	cfg.Spec.LoadBalancer.Type = config.LoadBalancerNodeLocal
	for _, m := range q.members {
		cfg.Spec.Hosts = append(cfg.Spec.Hosts, config.Host{Name: m.Name, AdvertiseAddress: m.Address.String(), Roles: []config.Role{config.RoleControlPlane}})
	}
	for i, name := range []string{"w-1", "w-2"} {
		cfg.Spec.Hosts = append(cfg.Spec.Hosts, config.Host{Name: name, AdvertiseAddress: fmt.Sprintf("10.0.0.%d", i+1), Roles: []config.Role{config.RoleWorker}})
	}
	config.SetDefaults(cfg)
	if edit != nil {
		edit(&cfg.Spec)
	}
	health := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})) // etcd's own port for it
	t.Cleanup(health.Close)
	for _, spec := range cfg.Spec.Hosts {
		f.hosts = append(f.hosts, newFleetHost(f, spec, health.Listener.Addr().String()))
		f.api.Put(t, &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: spec.Name}})
	}
	f.connect(cfg)
	f.hosts[0].Put(host.File{Path: config.PKIDir + "/etcd/ca.crt", Mode: 0o644, Data: q.pki[config.PKIDir+"/etcd/ca.crt"]},
		host.File{Path: config.PKIDir + "/etcd/ca.key", Mode: 0o600, Data: q.pki[config.PKIDir+"/etcd/ca.key"]})
	servers := f.ControlPlanes()
	first, others := servers[0], servers[1:]
	shared := phases.SharedPKI(f.Cluster, first)
	perform(t, phases.Certs(f.Cluster, first), phases.Kubeconfigs(f.Cluster, first),
		phases.JoinCerts(f.Cluster, others, shared), phases.JoinKubeconfigs(f.Cluster, others, shared),
		phases.LoadBalancer(f.Cluster, f.Nodes), phases.Etcd(f.Cluster, servers), phases.ControlPlane(f.Cluster, servers),
		phases.Kubelet(f.Cluster, f.Nodes, phases.KubeletConfig(f.Cluster)))
	f.done = nil
	for _, h := range f.hosts {
		h.ResetRecord()
	}
	return f
}

// connect opens the hosts as a run of a new process does: of what an earlier one knew nothing is left.
func (f *fleet) connect(cfg *config.Cluster) {
	f.Cluster = &cluster.Cluster{Config: cfg, Now: time.Now, Rand: rand.Reader, Version: "test"}
	for i, h := range f.hosts {
		f.Nodes = append(f.Nodes, &cluster.Node{Host: h, Spec: cfg.Spec.Hosts[i], Facts: cluster.Facts{
			Hostname: h.node.Name, Arch: "amd64", ResolvConf: "/etc/resolv.conf",
		}})
	}
	c := f.Cluster
	f.t.Cleanup(func() {
		_ = c.Close()
		if client, err := c.Kube(context.Background()); err == nil {
			client.Close()
		}
	})
}

// again is connect with the same document.
func (f *fleet) again() {
	for _, h := range f.hosts {
		h.Lose(nil)
	}
	f.left, f.steps, f.end, f.kill, f.late = -1, -1, func() {}, false, false
	f.connect(f.Config)
}

// act counts one thing that is done to a host. The error is for its caller; do tells whether it is done all the same.
func (f *fleet) act(h *fleetHost, what string) (do bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left != 0 {
		f.left--
		f.done = append(f.done, h.node.Name+": "+what)
		return true, nil
	}
	f.left--
	f.cut()
	if f.kill {
		return false, errCut
	}
	if f.late {
		f.done = append(f.done, h.node.Name+": "+what)
	}
	return f.late, context.Canceled
}

// cut ends the run. f.mu is held.
func (f *fleet) cut() {
	f.end()
	if f.kill {
		for _, h := range f.hosts {
			h.Lose(errCut)
		}
	}
}

// step tells whether one more step of an exchange is made before the power is lost.
func (f *fleet) step() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.steps != 0 {
		f.steps--
		f.taken++
		return true
	}
	f.steps--
	return false
}

// lose ends the run because the power is lost: nobody is there any more to go on.
func (f *fleet) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kill = true
	f.cut()
}

// host is the host of that name.
func (f *fleet) host(name string) *fleetHost {
	return f.hosts[slices.IndexFunc(f.hosts, func(h *fleetHost) bool { return h.node.Name == name })]
}

// converge is what apply does to the members of a cluster that has its version, as far as it is about their hosts.
func (f *fleet) converge(opts Options) []workflow.Step {
	return []workflow.Step{
		workflow.Parallel(phases.LoadBalancer(f.Cluster, f.Nodes), phases.Folders(f.Cluster, f.Nodes)),
		phases.ResumeKubelet(f.Nodes),
		ConvergeControlPlanes(f.Cluster, f.ControlPlanes(), opts),
		ConvergeWorkers(f.Cluster, f.Workers(), opts),
		Tidy(f.Cluster, f.Nodes),
	}
}

// check is what is to do on each host, by its name, as "ACTION OBJECT". Hosts with nothing to do are not there.
func (f *fleet) check() map[string][]string {
	f.t.Helper()
	opts := rigOptions()
	all := map[string][]string{}
	before := len(f.done)
	for _, p := range []workflow.Phase{
		ConvergeControlPlanes(f.Cluster, f.ControlPlanes(), opts), ConvergeWorkers(f.Cluster, f.Workers(), opts),
	} {
		for _, h := range p.Hosts {
			changes, err := p.Check(f.t.Context(), h)
			if err != nil {
				f.t.Fatalf("%s: %v", h.Name(), err)
			}
			for _, c := range changes {
				all[h.Name()] = append(all[h.Name()], string(c.Action)+" "+c.Object)
			}
		}
	}
	if len(f.done) > before {
		f.t.Errorf("Check does %q", f.done[before:])
	}
	return all
}

// finished fails the test unless nothing is to do, all that runs does so with the files that there are, every node takes
// pods, all load balancers send to all API servers, and nothing lies about that a run has needed.
func (f *fleet) finished() {
	f.t.Helper()
	if ready := wasReady(f.t.Context(), f.Cluster, f.Nodes[0]); !ready {
		f.t.Error("the API does not say that the first node is Ready")
	}
	if left := f.check(); len(left) > 0 {
		f.t.Errorf("left to do: %q", left)
	}
	for _, h := range f.hosts {
		name := h.node.Name
		for _, wrong := range h.wrong() {
			f.t.Errorf("%s: %s", name, wrong)
		}
		for _, path := range h.Paths("/") {
			if strings.HasPrefix(path, folder) || strings.HasSuffix(path, "myadm-new") || strings.Contains(path, "myadm-previous") {
				f.t.Errorf("%s: %s is left", name, path)
			}
		}
		file, _ := h.Get(manifests.HAProxyConfigPath)
		for _, n := range f.ControlPlanes() {
			if !strings.Contains(string(file.Data), n.Spec.AdvertiseAddress+":6443") {
				f.t.Errorf("%s: its load balancer sends nothing to %s", name, n.Spec.Name)
			}
		}
		if spec, ok := f.api.Object(nodeRef(name)).Object["spec"].(map[string]any); ok && spec["unschedulable"] == true {
			f.t.Errorf("node %s is cordoned", name)
		}
	}
}

// state is all that lasts of the hosts: files with their modes and contents, but for those of keys and certificates, which
// differ from run to run.
func (f *fleet) state() map[string]string {
	all := f.wholeState()
	for path, text := range all {
		_, file, _ := strings.Cut(path, ":")
		if strings.HasPrefix(file, config.PKIDir) || strings.HasSuffix(file, ".conf") && strings.HasPrefix(file, config.KubernetesDir) {
			all[path], _, _ = strings.Cut(text, " ")
		}
	}
	return all
}

// wholeState is state with all contents, and without folders.
func (f *fleet) wholeState() map[string]string {
	all := map[string]string{}
	for _, h := range f.hosts {
		infos, err := h.Sums(context.Background(), h.Paths("/")...)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, i := range infos {
			if i.Mode.IsDir() && i.Path != config.ManifestsDir {
				continue
			}
			all[h.node.Name+":"+i.Path] = strings.TrimSpace(i.Mode.String() + " " + i.SHA256 + i.Target)
		}
	}
	return all
}

// exchanges are the exchanges of all hosts in order, as "HOST: PODS THAT END".
func (f *fleet) exchanges() []string {
	var all []string
	for _, d := range f.done {
		if name, ended, ok := strings.Cut(d, ": exchange"); ok {
			all = append(all, strings.TrimSpace(name+":"+ended))
		}
	}
	return all
}

// dial reaches what listens on hosts.
func (f *fleet) dial(ctx context.Context, from *fleetHost, network, address, etcdHealth string) (net.Conn, error) {
	ip, port, _ := net.SplitHostPort(address)
	at, to := from, ""
	if ip != "127.0.0.1" {
		i := slices.IndexFunc(f.hosts, func(h *fleetHost) bool { return h.node.AdvertiseAddress == ip })
		if i < 0 {
			return nil, fmt.Errorf("%s: no route to host", address)
		}
		at = f.hosts[i]
	}
	switch name := ""; port {
	case "6443":
		name, to = manifests.APIServerName, at.apiServer
		if !at.serves(name) {
			to = ""
		}
	case "10257", "10259":
		name = map[string]string{"10257": manifests.ControllerManagerName, "10259": manifests.SchedulerName}[port]
		if at.serves(name) {
			to = f.client
		}
	case "2381":
		if at.serves(manifests.EtcdName) {
			to = etcdHealth
		}
	case "2379":
		to = address
	}
	if to == "" {
		return nil, fmt.Errorf("%s: connection refused", address)
	}
	return new(net.Dialer).DialContext(ctx, network, to)
}
