package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
)

var kubeSystem = kube.Ref{APIVersion: "v1", Kind: "Namespace", Name: "kube-system"}

func TestConnectDialsWhereToldAndNamesItself(t *testing.T) {
	s := kubetest.NewServer(t)
	var agent, proto atomic.Value
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		agent.Store(r.UserAgent())
		proto.Store(r.Proto)
		return false
	}
	t.Setenv("HTTPS_PROXY", "http://192.0.2.1:1") // of the operator's machine, not of the host that is dialled through
	var dialled atomic.Value
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled.Store(address)
		return new(net.Dialer).DialContext(ctx, network, s.Address())
	}
	config := strings.ReplaceAll(string(s.Kubeconfig()), s.Address(), "example.com:6443") // a name of the test certificate
	c, err := kube.Connect([]byte(config), dial, kube.Options{Version: "v0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Get(t.Context(), kubeSystem); err != nil {
		t.Fatal(err)
	}
	if got := dialled.Load(); got != "example.com:6443" {
		t.Errorf("dialled %v", got)
	}
	if got := agent.Load(); got != "myadm/v0.1.0" {
		t.Errorf("user agent %v", got)
	}
	if got := proto.Load(); got != "HTTP/2.0" {
		t.Errorf("protocol %v", got)
	}
}

func TestRequestsAreBoundedAndWatchesAreNot(t *testing.T) {
	s := kubetest.NewServer(t)
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("watch") == "" && !strings.Contains(r.URL.Path, "configmaps") {
			<-r.Context().Done()
			return true
		}
		return false
	}
	c := s.Client(t, kube.Options{Timeout: 50 * time.Millisecond})
	start := time.Now()
	_, err := c.Get(t.Context(), kubeSystem)
	if err == nil || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	// A watch lives on far beyond the bound: what it waits for comes later.
	later := time.AfterFunc(700*time.Millisecond, func() { s.Put(t, configMap("default", "late", "key", "value")) })
	defer later.Stop()
	if err := c.WaitConfigMap(t.Context(), "default", "late", "key"); err != nil {
		t.Error(err)
	}
	watches := 0
	for _, r := range s.Requests() {
		if strings.Contains(r, "watch=true") {
			watches++
		}
	}
	if watches != 1 {
		t.Errorf("%d watches", watches)
	}
}

const fileConfig = `
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://10.0.0.1:6443", certificate-authority: /etc/kubernetes/pki/ca.crt}}]
users: [{name: u, user: {tokenFile: /token}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`

func TestConnectReadsFilesFromTheHost(t *testing.T) {
	s := kubetest.NewServer(t)
	var authorization atomic.Value
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		authorization.Store(r.Header.Get("Authorization"))
		return false
	}
	files := map[string]string{"/etc/kubernetes/pki/ca.crt": string(s.CA()), "/token": "abc\n"}
	read := func(path string) ([]byte, error) {
		if data, ok := files[path]; ok {
			return []byte(data), nil
		}
		return nil, errors.New("no such file")
	}
	config := []byte(strings.Replace(fileConfig, "10.0.0.1:6443", s.Address(), 1))
	c, err := kube.Connect(config, nil, kube.Options{ReadFile: read})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Get(t.Context(), kubeSystem); err != nil {
		t.Fatal(err)
	}
	if got := authorization.Load(); got != "Bearer abc" {
		t.Errorf("authorization %v", got)
	}
}

func TestConnectRefuses(t *testing.T) {
	missing := func(path string) ([]byte, error) { return nil, fmt.Errorf("%s: no such file", path) }
	for _, test := range []struct {
		name, config, want string
		read               func(string) ([]byte, error)
	}{
		{"files without a reader", fileConfig, "names the file /etc/kubernetes/pki/ca.crt", nil},
		{"files that are not there", fileConfig, "read /etc/kubernetes/pki/ca.crt", missing},
		{"a program to log in with", strings.Replace(fileConfig, "tokenFile: /token",
			"exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/evil, interactiveMode: Never}", 1), "plugin", missing},
		{"no such context", strings.Replace(fileConfig, "current-context: x", "current-context: other", 1), `current-context "other"`, nil},
		{"no such cluster", strings.Replace(fileConfig, "cluster: c,", "cluster: d,", 1), "no server", nil},
		{"nothing", "", "current-context", nil},
		{"something else", "\x00key: hush", "not a kubeconfig", nil},
		{"a certificate that is none", strings.Replace(fileConfig, "tokenFile: /token",
			"client-certificate-data: aHVzaA==, client-key-data: aHVzaA==", 1), "", func(string) ([]byte, error) { return []byte("x"), nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := kube.Connect([]byte(test.config), nil, kube.Options{ReadFile: test.read})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hush") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestHealth(t *testing.T) {
	s := kubetest.NewServer(t)
	c := s.Client(t, kube.Options{})
	if err := c.Health(t.Context(), "/readyz"); err != nil {
		t.Error(err)
	}
	s.SetHealth("/readyz", `[+]ping ok
[-]etcd failed: reason withheld
[+]log ok
[-]poststarthook/rbac/bootstrap-roles failed: reason withheld
readyz check failed
`)
	err := c.Health(t.Context(), "/readyz")
	var sick *kube.HealthError
	if !errors.As(err, &sick) || err.Error() != "/readyz: not ok yet: etcd, poststarthook/rbac/bootstrap-roles" {
		t.Errorf("got %v", err)
	}
}
