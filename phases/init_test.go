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
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

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
}

func newSite(t testing.TB) *site {
	c, machines := testCluster(t, "cp-1")
	s := &site{t: t, machine: machines[0], api: kubetest.NewServer(t), nodes: c.Nodes, config: c.Config}
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

// init is one process that runs init: it remembers nothing of another. The certificates are real, and so is the clock.
func (s *site) init() (workflow.Summary, error) {
	bundle, err := sharedBundle()
	if err != nil {
		return workflow.Summary{}, err
	}
	c := &cluster.Cluster{Config: s.config, Nodes: s.nodes, Bundle: bundle, Now: time.Now, Rand: rand.Reader, Version: "test"}
	defer func() {
		if client, err := c.Kube(context.Background()); err == nil {
			client.Close()
		}
	}()
	return new(workflow.Runner).Run(context.Background(), Init(c, s.nodes[0], InitOptions{Patience: time.Minute, TokenTTL: time.Hour})...)
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
	for _, ref := range []kube.Ref{
		{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: "kubeadm-config"},
		{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-public", Name: "cluster-info"},
		{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "kube-system", Name: "coredns"},
		{APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: "kube-flannel", Name: "kube-flannel-ds"},
	} {
		if s.api.Object(ref) == nil {
			t.Errorf("%s is not there", ref)
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
	if _, err := s.init(); err != nil {
		t.Fatal(err)
	}
	s.settle(t)
	if n := s.machine.units.Starts("kubelet"); n != 1 {
		t.Errorf("the kubelet was started %d times", n)
	}

	c := &cluster.Cluster{Config: s.config, Nodes: s.nodes, Now: time.Now, Rand: rand.Reader}
	run(t, Reset(c, c.Nodes, nil)...)
	if diff := cmp.Diff(before, lasting(t, s.machine)); diff != "" {
		t.Errorf("after reset (-before +after):\n%s", diff)
	}
}

// TestInitGoesOnAfterACut kills init after every few things that it does to the host. Which ones they are differs from
// run to run, as phases run at the same time; how it ends does not.
func TestInitGoesOnAfterACut(t *testing.T) {
	const stride = 9
	for cut := 1; ; cut += stride {
		s := newSite(t)
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
