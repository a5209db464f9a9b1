package phases

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/workflow"
)

// site is a machine on which a whole init can run: once its kubelet runs and the static pods have their manifests, an API
// server answers on it, with the certificate that init has made, and the node is there.
type site struct {
	t       testing.TB
	machine *machine
	api     *kubetest.Server
	nodes   []*cluster.Node
	config  *config.Cluster
	skip    []string // phases
	key     certs.CertificateKey
}

func newSite(t testing.TB) *site {
	c, machines := testCluster(t, "cp-1")
	key, err := certs.NewCertificateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, machine: machines[0], api: kubetest.NewServer(t), nodes: c.Nodes, config: c.Config, key: key}
	s.api.Intercept = func(_ http.ResponseWriter, r *http.Request) bool { return r.URL.Path == "/version" }
	s.machine.onStart = s.kubeletStarts

	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	etcd, managers := httptest.NewServer(ok), httptest.NewTLSServer(ok)
	front := httptest.NewUnstartedServer(s.proxy())
	front.TLS = &tls.Config{GetConfigForClient: s.tls}
	front.StartTLS()
	for _, server := range []*httptest.Server{etcd, managers, front} {
		t.Cleanup(server.Close)
	}
	listeners := map[string]*httptest.Server{
		"127.0.0.1:2381": etcd, "127.0.0.1:10257": managers, "127.0.0.1:10259": managers, "10.0.0.1:6443": front,
	}
	manifest := map[*httptest.Server]string{etcd: "etcd", managers: "kube-controller-manager", front: "kube-apiserver"}
	s.machine.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
		server := listeners[address]
		_, there := s.machine.Get(config.ManifestsDir + "/" + manifest[server] + ".yaml")
		if server == nil || !there || !s.machine.units.Active("kubelet") {
			return nil, errors.New("connection refused")
		}
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	})
	return s
}

// kubeletStarts is what a kubelet does that finds its configuration.
func (s *site) kubeletStarts(unit string) {
	if _, ok := s.machine.Get(config.KubeletConf); unit != "kubelet.service" || !ok {
		return
	}
	if _, ok := s.machine.Get(config.KubeletClientCert); !ok {
		kubeletHasCertificate(s.t, s.machine)
	}
	if s.api.Object(nodeRef("cp-1")) == nil {
		s.api.Put(s.t, node("cp-1", corev1.ConditionTrue))
	}
}

func (s *site) proxy() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "https", Host: s.api.Address()}) },
		Transport:     &http.Transport{TLSClientConfig: s.api.TLS(), ForceAttemptHTTP2: true},
		FlushInterval: -1, // watches
	}
}

// tls serves the certificate that is on the machine.
func (s *site) tls(*tls.ClientHelloInfo) (*tls.Config, error) {
	cert, _ := s.machine.Get(config.PKIDir + "/apiserver.crt")
	key, _ := s.machine.Get(config.PKIDir + "/apiserver.key")
	pair, err := tls.X509KeyPair(cert.Data, key.Data)
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, err
}

// process is one process that runs myadm: it remembers nothing of another. The certificates are real, and so is the clock.
func (s *site) process(do func(r *workflow.Runner, init []workflow.Step)) {
	s.t.Helper()
	bundle, err := sharedBundle()
	if err != nil {
		s.t.Fatal(err)
	}
	c := &cluster.Cluster{Config: s.config, Nodes: s.nodes, Bundle: bundle, Now: time.Now, Rand: rand.Reader, Version: "test"}
	do(&workflow.Runner{Skip: s.skip}, Init(c, s.nodes[0], InitOptions{Patience: 10 * time.Second, TokenTTL: time.Hour, CertificateKey: s.key}))
	if client, err := c.Kube(context.Background()); err == nil {
		client.Close()
	}
}

func (s *site) init() (summary workflow.Summary, err error) {
	s.process(func(r *workflow.Runner, init []workflow.Step) { summary, err = r.Run(context.Background(), init...) })
	return summary, err
}

func (s *site) plan(t *testing.T) (plan workflow.Plan) {
	t.Helper()
	s.process(func(r *workflow.Runner, init []workflow.Step) {
		var err error
		if plan, err = r.Plan(context.Background(), init...); err != nil {
			t.Error(err)
		}
	})
	return plan
}

// settle looks at a site on which init has ended: nothing is left to do for another, and the cluster is whole.
func (s *site) settle(t *testing.T) {
	t.Helper()
	s.machine.ResetRecord()
	version := s.api.Version()
	if summary, err := s.init(); err != nil || summary.Changes != 0 {
		t.Errorf("running it again makes %d changes, %v", summary.Changes, err)
	}
	if w, x := s.machine.Writes(), s.machine.Runs(); len(w)+len(x) > 0 || s.api.Version() != version {
		t.Errorf("running it again writes %q, runs %q, and takes the API from version %d to %d", w, x, version, s.api.Version())
	}
	for _, p := range objectPhases {
		for _, ref := range p.has {
			if !slices.Contains(s.skip, p.name) && s.api.Object(ref) == nil {
				t.Errorf("%s is not there", ref)
			}
		}
	}
	tokens := 0
	list, err := kube.ListTokens(t.Context(), s.api.Client(t, kube.Options{}))
	if err != nil {
		t.Error(err)
	}
	for _, token := range list {
		if token.Description == initToken {
			tokens++
		}
	}
	if tokens != 1 {
		t.Errorf("there are %d tokens of init's", tokens)
	}
}

func TestInitEndsInACluster(t *testing.T) {
	s := newSite(t)
	ownHost(s.machine)
	before := lasting(t, s.machine)
	for _, p := range s.plan(t).Phases { // on a blank host, everything is still to do
		if changes := p.Hosts[0].Changes; len(changes) == 0 && p.Name != "preflight" {
			t.Errorf("the plan has nothing for %s", p.Name)
		}
	}
	if diff := cmp.Diff(before, lasting(t, s.machine)); diff != "" {
		t.Errorf("the plan changed the host (-before +after):\n%s", diff)
	}
	if _, err := s.init(); err != nil {
		t.Fatal(err)
	}
	s.settle(t)
	if n := s.plan(t).Changes(); n > 0 {
		t.Errorf("after init, %d changes are planned", n)
	}
	if n := s.machine.units.Starts("kubelet"); n != 1 {
		t.Errorf("the kubelet was started %d times", n)
	}

	c := &cluster.Cluster{Config: s.config, Nodes: s.nodes, Now: time.Now, Rand: rand.Reader}
	run(t, Reset(c, c.Nodes)...)
	if diff := cmp.Diff(before, lasting(t, s.machine)); diff != "" {
		t.Errorf("after reset (-before +after):\n%s", diff)
	}
}

// TestInitGoesOnAfterACut kills init after every few things that it does to the host. Which ones they are differs from
// run to run, as phases run at the same time; how it ends does not.
func TestInitGoesOnAfterACut(t *testing.T) {
	const stride = 11
	for cut := 1; ; cut += stride {
		s := newSite(t)
		s.skip = []string{"addons", "network"} // take long, and do nothing to the host
		s.machine.left = cut
		_, err := s.init()
		if err == nil {
			if cut < 5*stride {
				t.Errorf("init does only %d things to the host", cut)
			}
			return
		}
		if !errors.Is(err, errCut) {
			t.Fatalf("cut after %d: %v", cut, err)
		}
		s.machine.left = -1
		if _, err := s.init(); err != nil {
			t.Fatalf("cut after %d, the next run fails: %v", cut, err)
		}
		s.settle(t)
	}
}
