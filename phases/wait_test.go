package phases

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/workflow"
)

// health answers for the components of a control plane, each at the address that it has on its host.
type health struct {
	mu    sync.Mutex
	ill   map[string]int // how often a component says that it is ill before it is well
	asked map[string]int // by address and path
}

func newHealth(t *testing.T, m *machine) *health {
	h := &health{ill: map[string]int{}, asked: map[string]int{}}
	plain, secure := httptest.NewServer(h), httptest.NewTLSServer(h)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	servers := map[string]*httptest.Server{
		"127.0.0.1:2381": plain, "10.0.0.1:6443": secure, "127.0.0.1:10257": secure, "127.0.0.1:10259": secure,
	}
	m.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
		server, ok := servers[address]
		if !ok {
			return nil, fmt.Errorf("connection to %s refused", address)
		}
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	})
	return h
}

func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	what := r.Host + r.URL.Path
	h.asked[what]++
	if h.ill[what] > 0 {
		h.ill[what]--
		http.Error(w, "not yet", http.StatusInternalServerError)
	}
}

func TestWaitControlPlaneAsksEveryComponent(t *testing.T) {
	c, machines := testCluster(t, "cp-1")
	h := newHealth(t, machines[0])
	endpoints := []string{"10.0.0.1:6443/readyz", "127.0.0.1:10257/healthz", "127.0.0.1:10259/livez", "127.0.0.1:2381/readyz"}
	for i, e := range endpoints {
		h.ill[e] = i + 1
	}
	p := WaitControlPlane(c, c.Nodes, time.Minute)
	var waited []workflow.Change
	r := workflow.Runner{Report: serial(func(e workflow.Event) {
		if e.Kind == workflow.Applying {
			waited = e.Changes
		}
	})}
	if _, err := r.Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, change := range waited {
		names = append(names, change.Object)
	}
	if diff := cmp.Diff([]string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}, names); diff != "" {
		t.Errorf("waited for (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(endpoints, slices.Sorted(maps.Keys(h.asked))); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	settled(t, p, c.Nodes[0])

	h.ill["127.0.0.1:10259/livez"] = 1 // now it falls ill alone
	if diff := cmp.Diff([]string{"run kube-scheduler"}, check(t, p, c.Nodes[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWaitControlPlaneTellsTheLastWords(t *testing.T) {
	c, machines := testCluster(t, "cp-1")
	h := newHealth(t, machines[0])
	h.ill["127.0.0.1:2381/readyz"] = 1 << 30
	words := "etcd: cannot open the data folder\n"
	machines[0].On("sh", "-c", lastWordsScript, "sh", "etcd").Return(words)
	_, err := new(workflow.Runner).Run(t.Context(), WaitControlPlane(c, c.Nodes, time.Second))
	for _, part := range []string{"cp-1: wait-control-plane: etcd: ", "last log lines:\netcd: cannot open the data folder"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v\ndoes not hold %q", err, part)
		}
	}
}

func TestLastWordsOfAHostThatIsLost(t *testing.T) {
	m := newMachine(t, "h1")
	m.Lose(errors.New("gone"))
	if got := LastWords(t.Context(), m, "etcd"); got != "; hint: journalctl -u kubelet on the host" {
		t.Errorf("got %q", got)
	}
}

// Before there is a cluster, and while nothing listens, everything is waited for.
func TestWaitsOnABlankHost(t *testing.T) {
	c, machines := testCluster(t, "cp-1")
	machines[0].OnDial(func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") })
	n := c.Nodes[0]
	for want, p := range map[int]workflow.Phase{1: WaitAPI(c, n, time.Minute), 4: WaitControlPlane(c, c.Nodes, time.Minute)} {
		if got := check(t, p, n); len(got) != want {
			t.Errorf("%s: %q, want %d", p.Name, got, want)
		}
	}
}

func TestWaitAPI(t *testing.T) {
	c, s := withAPI(t)
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool { return r.URL.Path == "/version" } // 200
	refusals := 2
	m := c.Nodes[0].Host.(*machine)
	m.OnDial(func(ctx context.Context, network, _ string) (net.Conn, error) {
		if refusals--; refusals >= 0 {
			return nil, errors.New("connection refused")
		}
		return new(net.Dialer).DialContext(ctx, network, s.Address())
	})
	p := WaitAPI(c, c.Nodes[0], 10*time.Second)
	if summary := run(t, p); summary.Changes != 1 || refusals >= 0 {
		t.Errorf("%d changes, %d refusals are left", summary.Changes, refusals)
	}
	settled(t, p, c.Nodes[0])
}

func TestWaitAPIGivesUp(t *testing.T) {
	c, _ := withAPI(t)
	m := c.Nodes[0].Host.(*machine)
	m.OnDial(func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") })
	m.On("sh", "-c", lastWordsScript, "sh", "kube-apiserver").Return("invalid flag\n")
	_, err := new(workflow.Runner).Run(t.Context(), WaitAPI(c, c.Nodes[0], 500*time.Millisecond))
	for _, part := range []string{"does not answer after 500ms", "connection refused", "last log lines:\ninvalid flag"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v\ndoes not hold %q", err, part)
		}
	}
	cause := errors.New("the operator said stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := WaitAPI(c, c.Nodes[0], time.Minute).Apply(ctx, m, nil); !errors.Is(err, cause) {
		t.Errorf("stopped: got %v", err)
	}
}

// What ended the wait says nothing of what is missing.
func TestPollTellsWhatIsMissing(t *testing.T) {
	missing := errors.New("it is not there yet")
	for whole, want := range []error{context.Canceled, missing} { // attempts before the one that is cut short
		ctx, cancel := context.WithCancel(t.Context())
		err := poll(ctx, func(ctx context.Context) error {
			if whole--; whole >= 0 {
				return missing
			}
			cancel()
			return ctx.Err()
		})
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

func TestWaitForFile(t *testing.T) {
	m := newMachine(t, "h1")
	m.touch("/there", 0o600, "x")
	if err := WaitForFile(t.Context(), m, "/there", time.Minute); err != nil {
		t.Error(err)
	}
	m.On("sh", "-c", lastWordsScript, "sh", "kubelet").Return("no certificate\n")
	err := WaitForFile(t.Context(), m, config.KubeletConf, time.Nanosecond)
	if err == nil || !strings.Contains(err.Error(), "the kubelet has not written "+config.KubeletConf) || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("got %v", err)
	}
}

// Only the folders of certificates that a host has are mounted: the kubelet would make the others.
func TestControlPlaneMountsCertificatesThatAreThere(t *testing.T) {
	const there, missing = "/usr/share/ca-certificates", "/etc/ca-certificates"
	c, machines := testCluster(t, "cp-1")
	machines[0].Mkdir(there, 0o755)
	run(t, ControlPlane(c, c.Nodes))
	manifest, _ := machines[0].Get(config.ManifestsDir + "/kube-apiserver.yaml")
	if text := string(manifest.Data); !strings.Contains(text, "path: "+there+"\n") || strings.Contains(text, "path: "+missing+"\n") {
		t.Errorf("%s should be mounted, %s not:\n%s", there, missing, text)
	}
}
