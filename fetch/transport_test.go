package fetch

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myadm/myadm/release"
)

// serveTLS starts a server that has a certificate for all makers, and returns it with the file of its authority.
func serveTLS(t *testing.T, h http.Handler) (server *httptest.Server, caFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		DNSNames:    []string{"dl.k8s.io", "github.com", "registry.k8s.io", "index.docker.io"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server = httptest.NewUnstartedServer(h)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return server, caFile
}

// proxy passes every connection on to one server, whatever its name, and notes who was asked for.
type proxy struct {
	to    string // HOST:PORT
	mu    sync.Mutex
	asked map[string]bool
}

// ServeHTTP implements http.Handler: CONNECT for https, and requests with whole URLs for http.
func (p *proxy) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked[r.Host] = true
	p.mu.Unlock()
	if r.Method != http.MethodConnect {
		r.RequestURI, r.URL.Host = "", p.to
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			http.Error(out, err.Error(), http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		out.WriteHeader(response.StatusCode)
		_, _ = io.Copy(out, response.Body)
		return
	}
	behind, err := net.Dial("tcp", p.to)
	if err != nil {
		http.Error(out, err.Error(), http.StatusBadGateway)
		return
	}
	defer behind.Close()
	out.WriteHeader(http.StatusOK)
	front, _, err := out.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer front.Close()
	go func() { _, _ = io.Copy(behind, front) }()
	_, _ = io.Copy(front, behind)
}

// TestMakersThroughAProxy: without a mirror everything comes from its maker, here through a proxy, with a private CA.
func TestMakersThroughAProxy(t *testing.T) {
	w := newWorld(t)
	w.mirror = false
	asked := items(t)
	w.pushImages(t, asked)
	server, caFile := serveTLS(t, w)
	p := &proxy{to: server.Listener.Addr().String(), asked: map[string]bool{}}
	f := open(t, Options{CAFile: caFile, Proxy: Proxy{HTTPSProxy: serve(t, p)}})
	if v, err := f.Resolve(t.Context(), "stable"); err != nil || v != version {
		t.Errorf("stable is %s, %v", v, err)
	}
	got, err := f.Get(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	checkGot(t, f, got, asked)
	for _, host := range []string{"dl.k8s.io:443", "github.com:443", "registry.k8s.io:443", "index.docker.io:443"} {
		if !p.asked[host] {
			t.Errorf("the proxy was asked for %v, not for %s", p.asked, host)
		}
	}
}

// TestPlainMirrorThroughAProxy: a proxy also passes requests for plain http on.
func TestPlainMirrorThroughAProxy(t *testing.T) {
	w := newWorld(t)
	p := &proxy{to: strings.TrimPrefix(serve(t, w), "http://"), asked: map[string]bool{}}
	f := open(t, Options{Mirror: "http://mirror.example", Proxy: Proxy{HTTPProxy: serve(t, p)}})
	if _, err := f.Get(t.Context(), items(t, "kubelet")); err != nil || !p.asked["mirror.example"] {
		t.Errorf("asked %v, %v", p.asked, err)
	}
}

// TestPrivateAuthority: without its file the server is not trusted, at once and with a hint.
func TestPrivateAuthority(t *testing.T) {
	w := newWorld(t)
	asked := items(t, "kubelet", "pause")
	w.pushImages(t, asked)
	server, caFile := serveTLS(t, w)
	f := open(t, Options{Mirror: server.URL, CAFile: caFile})
	if _, err := f.Get(t.Context(), asked); err != nil {
		t.Error(err)
	}
	for _, item := range asked {
		g := open(t, Options{Mirror: server.URL})
		_, err := g.Get(t.Context(), []release.Item{item})
		wantError(t, err, item.String(), "certificate", "; hint: --ca-file names a file with the certificate authority of the mirror "+server.Listener.Addr().String())
	}
	if _, err := New(t.Context(), Options{CAFile: os.Args[0], CacheDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "has none; hint: it is a PEM file") {
		t.Error(err)
	}
}

// TestNoPlainHTTP: neither a redirect nor a registry at a private address leads away from TLS.
func TestNoPlainHTTP(t *testing.T) {
	w := newWorld(t)
	asked := items(t, "kubelet", "pause")
	w.pushImages(t, asked)
	plain := serve(t, w)
	server, caFile := serveTLS(t, http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		http.Redirect(out, r, plain+r.URL.Path, http.StatusFound)
	}))
	f := open(t, Options{Mirror: server.URL, CAFile: caFile})
	for _, item := range asked {
		_, err := f.Get(t.Context(), []release.Item{item})
		wantError(t, err, item.String(), "plain http is not spoken; hint: ")
	}
	g := open(t, Options{Mirror: strings.Replace(plain, "http://", "https://", 1)})
	for _, item := range asked {
		if _, err := g.Get(t.Context(), []release.Item{item}); err == nil {
			t.Errorf("%s came over plain http", item)
		}
	}
	if taken := w.taken(); len(taken) > 0 {
		t.Errorf("over plain http came %v", taken)
	}
}

// TestCredentials: the mirror's URL or docker's file has them, for files and images alike; nobody else sees them.
func TestCredentials(t *testing.T) {
	w := newWorld(t)
	asked := items(t, "kubelet", "pause")
	w.pushImages(t, asked)
	other := serve(t, http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("credentials went to another server")
		}
		w.ServeHTTP(out, r)
	}))
	mirror := serve(t, http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		switch user, password, _ := r.BasicAuth(); {
		case user != "me" || password != "s3cret":
			out.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
			http.Error(out, "who are you?", http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, "/kubelet"):
			http.Redirect(out, r, other+r.URL.Path, http.StatusFound)
		default:
			w.ServeHTTP(out, r)
		}
	}))
	u, err := url.Parse(mirror)
	if err != nil {
		t.Fatal(err)
	}
	file := `{"auths": {"` + u.Host + `": {"auth": "` + base64.StdEncoding.EncodeToString([]byte("me:s3cret")) + `"}}}`
	for name, o := range map[string]Options{
		"in the URL": {Mirror: "http://me:s3cret@" + u.Host},
		"in a file":  {Mirror: mirror, Keychain: keychainOf(t, file)},
	} {
		f := open(t, o)
		if got, err := f.Get(t.Context(), asked); err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			checkGot(t, f, got, asked)
		}
	}
	for _, o := range []Options{{Mirror: mirror}, {Mirror: "http://me:wr0ng@" + u.Host}} {
		f := open(t, o)
		for _, item := range asked {
			_, err := f.Get(t.Context(), []release.Item{item})
			wantError(t, err, item.String(), "401", "; hint: the mirror "+u.Host+" wants other credentials")
			if strings.Contains(err.Error(), "wr0ng") {
				t.Errorf("a password is shown: %v", err)
			}
		}
	}
}

func TestOptionsThatAreWrong(t *testing.T) {
	for want, o := range map[string]Options{
		"is not the URL of a mirror":                         {Mirror: "ftp://me:s3cret@mirror"},
		"the mirror's URL is malformed":                      {Mirror: "https://me:s3cret@mirror:port"},
		"the proxy of HTTPS_PROXY is malformed; hint: write": {Proxy: Proxy{HTTPSProxy: "gopher://me:s3cret@proxy"}},
		"certificate authorities: open ":                     {CAFile: "/nowhere/ca.pem"},
	} {
		o.CacheDir = t.TempDir()
		_, err := New(t.Context(), o)
		wantError(t, err, want)
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("a password is shown: %v", err)
		}
	}
}
