package join

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/phases"
)

const apiServer = "10.0.0.1:6443" // of cp-1

// newRealm is a network whose cluster has a PKI as init makes it: cp-1 has all of it, and the API answers with cp-1's
// certificate. It was made of a document that names cp-1 alone. The clock is the real one. given are files that cp-1 had
// before.
func newRealm(t testing.TB, balancer string, given certs.Files, joiners ...string) *network {
	t.Helper()
	n := newNetwork(t, joiners...)
	cp, f := n.cluster.Nodes[0], n.fakes["cp-1"]
	f.Delete(config.KubernetesDir)
	for path, data := range given {
		f.Put(host.File{Path: path, Mode: 0o600, Data: data})
	}
	whole := n.cluster.Config.Spec.Hosts
	alone := &config.Cluster{Spec: config.Spec{Hosts: whole[:1:1]}}
	alone.Spec.LoadBalancer.Type = balancer
	if balancer == config.LoadBalancerKeepalived {
		alone.Spec.LoadBalancer.VirtualIP = "10.0.0.100"
	}
	config.SetDefaults(alone)
	made := &cluster.Cluster{Config: alone, Nodes: []*cluster.Node{cp}, Now: time.Now, Rand: rand.Reader}
	run(t, phases.Certs(made, cp), phases.Kubeconfigs(made, cp))

	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "https", Host: n.server.Address()}) },
		Transport:     &http.Transport{TLSClientConfig: n.server.TLS(), ForceAttemptHTTP2: true},
		FlushInterval: -1, // watches
	})
	pair, err := tls.X509KeyPair(n.content(t, "cp-1", "/apiserver.crt"), n.content(t, "cp-1", "/apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	front.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	front.StartTLS()
	t.Cleanup(front.Close)
	for _, f := range n.fakes {
		f.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasSuffix(address, ":6443") || strings.HasSuffix(address, ":6444") {
				address = front.Listener.Addr().String()
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		})
	}
	n.server.Put(t, clusterInfo(t, infoKubeconfig("https://"+apiServer, n.content(t, "cp-1", "/ca.crt"))))
	run(t, phases.UploadConfig(made), phases.Endpoint(made), phases.Addons(made))

	cfg := &config.Cluster{Spec: config.Spec{Hosts: whole}}
	config.SetDefaults(cfg)
	n.cluster = &cluster.Cluster{Config: cfg, Nodes: n.cluster.Nodes, Now: time.Now, Rand: rand.Reader, Version: "test"}
	return n
}

// content is a file of a host's PKI.
func (n *network) content(t testing.TB, name, path string) []byte {
	t.Helper()
	file, ok := n.fakes[name].Get(config.PKIDir + path)
	if !ok {
		t.Fatalf("%s: %s is not there", name, path)
	}
	return file.Data
}

// byToken are the options of hosts that join without a document of the cluster.
func (n *network) byToken(t testing.TB) Options {
	return Options{
		Endpoint: apiServer, Token: testToken(t, tokenID+"."+tokenSecret), CACertHashes: []string{pin(t, n.content(t, "cp-1", "/ca.crt"))},
	}
}
