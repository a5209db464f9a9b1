package join

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cluster-bootstrap/token/jws"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
)

const (
	tokenID     = "abcdef"
	tokenSecret = "hush0hush1hush22"
)

func testToken(t testing.TB, s string) kube.Token {
	t.Helper()
	token, err := kube.ParseToken(s)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func infoKubeconfig(server string, ca []byte) string {
	return fmt.Sprintf("apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: %s\n    server: %s\n  name: \"\"\nkind: Config\n",
		base64.StdEncoding.EncodeToString(ca), server)
}

// clusterInfo is the ConfigMap, signed for the token as the controller manager does it.
func clusterInfo(t testing.TB, kubeconfig string) *corev1.ConfigMap {
	t.Helper()
	signature, err := jws.ComputeDetachedSignature(kubeconfig, tokenID, tokenSecret)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-public", Name: "cluster-info"},
		Data:       map[string]string{"kubeconfig": kubeconfig, "jws-kubeconfig-" + tokenID: signature},
	}
}

func pin(t testing.TB, ca []byte) string {
	t.Helper()
	p, err := certs.PublicKeyPin(ca)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// testCluster is an API server whose cluster-info names it, and what to find it with.
func testCluster(t testing.TB) (*kubetest.Server, DiscoverOptions) {
	t.Helper()
	s := kubetest.NewServer(t)
	s.Put(t, clusterInfo(t, infoKubeconfig("https://"+s.Address(), s.CA())))
	return s, DiscoverOptions{
		Endpoint: s.Address(), Token: testToken(t, tokenID+"."+tokenSecret), CACertHashes: []string{pin(t, s.CA())},
	}
}

// newCA is an authority that signed nothing here.
func newCA(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestDiscover(t *testing.T) {
	s, opts := testCluster(t)
	var authorization atomic.Value
	authorization.Store("")
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		authorization.Store(authorization.Load().(string) + r.Header.Get("Authorization"))
		return false
	}
	var dialled atomic.Int32
	opts.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled.Add(1)
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	opts.CACertHashes = []string{pin(t, newCA(t)), opts.CACertHashes[0]}
	info, err := Discover(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if info.Server != "https://"+s.Address() || string(info.CA) != string(s.CA()) {
		t.Errorf("got %s and\n%s", info.Server, info.CA)
	}
	if got := len(s.Requests()); got != 2 {
		t.Errorf("%d requests", got)
	}
	if authorization.Load() != "" {
		t.Error("discovery sent a secret to a server that it does not know")
	}
	if dialled.Load() == 0 {
		t.Error("dialled past the host")
	}
}

func TestDiscoverWithoutPin(t *testing.T) {
	_, opts := testCluster(t)
	opts.CACertHashes = nil
	if _, err := Discover(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "--discovery-token-ca-cert-hash") {
		t.Errorf("without a word: %v", err)
	}
	opts.SkipCAPin = true
	if _, err := Discover(t.Context(), opts); err != nil {
		t.Errorf("by the user's word: %v", err)
	}
}

// A token that is seconds old: its signature comes while discovery is under way.
func TestDiscoverWaitsForTheSignature(t *testing.T) {
	s := kubetest.NewServer(t)
	signed := clusterInfo(t, infoKubeconfig("https://"+s.Address(), s.CA()))
	unsigned := signed.DeepCopy()
	delete(unsigned.Data, "jws-kubeconfig-"+tokenID)
	var asked atomic.Int32
	s.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		switch asked.Add(1) {
		case 1:
			kubetest.Fail(w, apierrors.NewServiceUnavailable("starting"))
			return true
		case 2:
			s.Put(t, unsigned)
		case 3:
			s.Put(t, signed)
		}
		return false
	}
	_, err := Discover(t.Context(), DiscoverOptions{
		Endpoint: s.Address(), Token: testToken(t, tokenID+"."+tokenSecret), CACertHashes: []string{pin(t, s.CA())},
	})
	if err != nil || asked.Load() != 4 {
		t.Errorf("after %d requests: %v", asked.Load(), err)
	}
}

func TestDiscoverUnknownToken(t *testing.T) {
	t.Parallel()
	_, opts := testCluster(t)
	opts.Token = testToken(t, "xyzxyz."+tokenSecret)
	start := time.Now()
	_, err := Discover(t.Context(), opts)
	var unknown *TokenUnknownError
	if !errors.As(err, &unknown) || unknown.ID != "xyzxyz" || strings.Contains(err.Error(), tokenSecret) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took < signingPatience || took > signingPatience+5*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestDiscoverWrongSecretAtOnce(t *testing.T) {
	s, opts := testCluster(t)
	opts.Token = testToken(t, tokenID+".0000000000000000")
	_, err := Discover(t.Context(), opts)
	var mismatch *TokenMismatchError
	if !errors.As(err, &mismatch) || strings.Contains(err.Error(), "0000000000000000") {
		t.Errorf("got %v", err)
	}
	if got := len(s.Requests()); got != 1 {
		t.Errorf("%d requests", got)
	}
}

// The kubeconfig was changed by somebody who does not have the token.
func TestDiscoverForgedInfo(t *testing.T) {
	s, opts := testCluster(t)
	forged := clusterInfo(t, infoKubeconfig("https://"+s.Address(), s.CA()))
	forged.Data["kubeconfig"] = infoKubeconfig("https://192.0.2.1:6443", s.CA())
	s.Put(t, forged)
	_, err := Discover(t.Context(), opts)
	var mismatch *TokenMismatchError
	if !errors.As(err, &mismatch) {
		t.Errorf("got %v", err)
	}
}

func TestDiscoverWrongPin(t *testing.T) {
	s, opts := testCluster(t)
	want := opts.CACertHashes[0]
	opts.CACertHashes = []string{pin(t, newCA(t))}
	_, err := Discover(t.Context(), opts)
	var wrong *CAPinError
	if !errors.As(err, &wrong) {
		t.Fatalf("got %v", err)
	}
	if wrong.Found[0] != want || wrong.Expected[0] != opts.CACertHashes[0] || !strings.Contains(err.Error(), want) {
		t.Errorf("got %+v", wrong)
	}
	if got := len(s.Requests()); got != 1 {
		t.Errorf("%d requests", got)
	}
}

// A thief of the token signs a cluster-info with the real, pinned CA beside their own, and answers with a certificate of
// their own. One pin that matches must not vouch for the other CA.
func TestDiscoverThiefOfTheToken(t *testing.T) {
	thief := kubetest.NewServer(t)
	real := newCA(t)
	both := append(append([]byte{}, real...), thief.CA()...)
	thief.Put(t, clusterInfo(t, infoKubeconfig("https://"+thief.Address(), both)))
	_, err := Discover(t.Context(), DiscoverOptions{
		Endpoint: thief.Address(), Token: testToken(t, tokenID+"."+tokenSecret), CACertHashes: []string{pin(t, real)},
	})
	if err == nil || !strings.Contains(err.Error(), "is not of the cluster's CA") {
		t.Errorf("got %v", err)
	}
}

// Behind one address two servers say different things.
func TestDiscoverTwoClusters(t *testing.T) {
	s, opts := testCluster(t)
	var asked atomic.Int32
	s.Intercept = func(http.ResponseWriter, *http.Request) bool {
		if asked.Add(1) == 2 {
			s.Put(t, clusterInfo(t, infoKubeconfig("https://192.0.2.1:6443", s.CA())))
		}
		return false
	}
	if _, err := Discover(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "names another cluster") {
		t.Errorf("got %v", err)
	}
}

func TestDiscoverFirstAnswers(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"a web page", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "no Kubernetes API"},
		{"another status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, "418"},
		{"without end", func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return // the client has had enough
				}
			}
		}, "more than 1048576 bytes"},
		{"a ConfigMap of somebody else", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"data": {}}`) }, "no key kubeconfig"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, opts := testCluster(t)
			s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
				test.answer(w, r)
				return true
			}
			if _, err := Discover(t.Context(), opts); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
			if got := len(s.Requests()); got != 1 {
				t.Errorf("%d requests", got)
			}
		})
	}
}

// What signs is trusted to be the cluster, and yet may be nonsense.
func TestDiscoverSignedNonsense(t *testing.T) {
	ca := newCA(t)
	one := infoKubeconfig("https://10.0.0.1:6443", ca)
	for _, test := range []struct{ name, kubeconfig, want string }{
		{"not YAML", "\t", "kubeconfig"},
		{"no cluster", "apiVersion: v1\nkind: Config\n", "0 clusters"},
		{"two clusters", strings.Replace(one, "kind: Config", "- {name: b, cluster: {server: x}}\nkind: Config", 1), "2 clusters"},
		{"not https", infoKubeconfig("http://10.0.0.1:6443", ca), "not an https URL"},
		{"no CA", infoKubeconfig("https://10.0.0.1:6443", nil), "no CA"},
		{"a CA that is none", infoKubeconfig("https://10.0.0.1:6443", []byte("x")), "CA: no certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, opts := testCluster(t)
			s.Put(t, clusterInfo(t, test.kubeconfig))
			if _, err := Discover(t.Context(), opts); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestDiscoverUnreachable(t *testing.T) {
	t.Parallel()
	_, opts := testCluster(t)
	ctx, cancel := context.WithCancel(t.Context())
	opts.Dial = func(context.Context, string, string) (net.Conn, error) {
		cancel() // else it would try for as long as a load balancer may be late
		return nil, errors.New("connection refused")
	}
	if _, err := Discover(ctx, opts); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}

	opts.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	start := time.Now()
	_, err := Discover(t.Context(), opts)
	if err == nil || !strings.Contains(err.Error(), "cannot reach the API at "+opts.Endpoint+": no connection within 5s") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > connectTimeout+5*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestDiscoverWithoutTLS(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	_, opts := testCluster(t)
	opts.Endpoint = plain.Listener.Addr().String()
	if _, err := Discover(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "does not speak TLS") {
		t.Errorf("got %v", err)
	}
}

func TestDiscoverByANameThatTheCertificateLacks(t *testing.T) {
	s, opts := testCluster(t)
	opts.Endpoint = "api.test:6443"
	opts.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Address())
	}
	if _, err := Discover(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "does not name this endpoint") {
		t.Errorf("got %v", err)
	}
}

func TestDiscoverOptionsAreChecked(t *testing.T) {
	_, good := testCluster(t)
	for _, test := range []struct {
		want   string
		change func(*DiscoverOptions)
	}{
		{"not host:port", func(o *DiscoverOptions) { o.Endpoint = "10.0.0.1" }},
		{"not host:port", func(o *DiscoverOptions) { o.Endpoint = "https://10.0.0.1:6443" }},
		{"needs a token", func(o *DiscoverOptions) { o.Token = kube.Token{} }},
		{"not sha256:", func(o *DiscoverOptions) { o.CACertHashes = []string{"sha256:abc"} }},
		{"not sha256:", func(o *DiscoverOptions) { o.CACertHashes[0] = strings.TrimPrefix(o.CACertHashes[0], "sha256:") }},
	} {
		opts := good
		opts.CACertHashes = append([]string{}, good.CACertHashes...)
		test.change(&opts)
		if _, err := Discover(t.Context(), opts); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v", test.want, err)
		}
	}
}

func TestTokenClient(t *testing.T) {
	s, opts := testCluster(t)
	var authorization atomic.Value
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		authorization.Store(r.Header.Get("Authorization"))
		return false
	}
	info := &ClusterInfo{Server: "https://" + s.Address(), CA: s.CA()}
	client, err := TokenClient(info, opts.Token, nil, kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Get(t.Context(), kube.Ref{APIVersion: "v1", Kind: "Namespace", Name: "kube-system"}); err != nil {
		t.Fatal(err)
	}
	if got := authorization.Load(); got != "Bearer "+opts.Token.Reveal() {
		t.Errorf("sent %v", got)
	}
}

func FuzzReadClusterInfo(f *testing.F) {
	token := testToken(f, tokenID+"."+tokenSecret)
	f.Add([]byte(`{"data": {"kubeconfig": "x", "jws-kubeconfig-abcdef": "a..b"}}`), "apiVersion: v1\nkind: Config\n")
	f.Add([]byte(`{"data": null}`), infoKubeconfig("https://10.0.0.1:6443", newCA(f)))
	f.Add([]byte(`[]`), "clusters: [{cluster: {server: 'https://[::1'}}]")
	f.Fuzz(func(t *testing.T, body []byte, kubeconfig string) {
		if info, err := readClusterInfo(body, token); err == nil {
			t.Errorf("%q is believed without a signature: %+v", body, info)
		}
		info, err := parseClusterInfo([]byte(kubeconfig))
		if err == nil && (!strings.HasPrefix(strings.ToLower(info.Server), "https://") || len(info.CA) == 0) {
			t.Errorf("%q gives %+v", kubeconfig, info)
		}
	})
}
