package join

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/workflow"
)

const caPath = config.PKIDir + "/ca.crt"

// joining is what Prepare would give, with a token that counts how often it is asked for.
func joining(t testing.TB, n *network) (j *Joining, asked *int) {
	asked = new(int)
	return &Joining{
		Server: "https://10.0.0.1:6443", CA: n.server.CA(), equipped: map[string]time.Time{},
		token: func(context.Context) (kube.Token, error) {
			*asked++
			return testToken(t, tokenID+"."+tokenSecret), nil
		},
	}, asked
}

func TestTLSBootstrapConverges(t *testing.T) {
	n := newNetwork(t, "w-1")
	w, f := n.joiners[0], n.fakes["w-1"]
	j, asked := joining(t, n)
	p := TLSBootstrap(n.joiners, j)
	if diff := cmp.Diff([]string{"create " + caPath, "create " + config.BootstrapKubeletConf}, check(t, p, w)); diff != "" {
		t.Errorf("on a blank host (-want +got):\n%s", diff)
	}
	if *asked > 0 || len(f.Writes()) > 0 {
		t.Error("the check asked for a token, or wrote")
	}
	run(t, p)
	for path, mode := range map[string]uint32{caPath: 0o644, config.BootstrapKubeletConf: 0o600} {
		if file, ok := f.Get(path); !ok || uint32(file.Mode) != mode {
			t.Errorf("%s: there %t, mode %v", path, ok, file.Mode)
		}
	}
	file, _ := f.Get(config.BootstrapKubeletConf)
	conf, err := clientcmd.Load(file.Data)
	if err != nil {
		t.Fatal(err)
	}
	current := conf.Contexts[conf.CurrentContext]
	server, user := conf.Clusters[current.Cluster], conf.AuthInfos[current.AuthInfo]
	if server.Server != j.Server || string(server.CertificateAuthorityData) != string(j.CA) || user.Token != tokenID+"."+tokenSecret {
		t.Errorf("the kubeconfig is of %s", server.Server)
	}

	f.ResetRecord()
	if summary := run(t, p); summary.Changes != 0 || len(f.Writes()) > 0 {
		t.Errorf("running it again writes %q", f.Writes())
	}

	f.Put(host.File{Path: caPath, Mode: 0o644, Data: newCA(t)})
	if diff := cmp.Diff([]string{"create " + caPath}, check(t, p, w)); diff != "" {
		t.Errorf("with another CA (-want +got):\n%s", diff)
	}
	run(t, p)
	if *asked != 1 {
		t.Errorf("the token was asked for %d times", *asked)
	}
}

func TestTLSBootstrapTellsNoSecret(t *testing.T) {
	n := newNetwork(t, "w-1")
	j, _ := joining(t, n)
	broken := errors.New("no space left on device")
	n.fakes["w-1"].FailWrites(config.BootstrapKubeletConf, broken)
	var told []string
	r := workflow.Runner{Report: func(e workflow.Event) {
		for _, c := range e.Changes {
			told = append(told, c.Object, c.Detail)
		}
	}}
	_, err := r.Run(t.Context(), TLSBootstrap(n.joiners, j))
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if all := strings.Join(told, " ") + err.Error(); strings.Contains(all, tokenSecret) {
		t.Errorf("the secret is told: %s", all)
	}
	for _, c := range n.fakes["w-1"].Commands() {
		if strings.Contains(c.String(), tokenSecret) {
			t.Errorf("the secret is in the command line %q", c)
		}
	}
}

func TestTLSBootstrapAndWhatIsThereAlready(t *testing.T) {
	put := func(f *hosttest.Fake, path, data string) {
		f.Put(host.File{Path: path, Mode: 0o600, Data: []byte(data)})
	}
	tests := []struct {
		name    string
		arrange func(f *hosttest.Fake)
		asked   int
		token   string // what the bootstrap kubeconfig holds afterwards; empty: there is none
	}{
		{"a token that an earlier run left is replaced", func(f *hosttest.Fake) { put(f, config.BootstrapKubeletConf, "old") }, 1, tokenSecret},
		{"a kubelet with a kubeconfig needs none", func(f *hosttest.Fake) { put(f, config.KubeletConf, "its own") }, 0, ""},
		{"nor is one touched that it has not given up yet", func(f *hosttest.Fake) {
			put(f, config.KubeletConf, "its own")
			put(f, config.BootstrapKubeletConf, "old")
		}, 0, "old"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t, "w-1")
			tt.arrange(n.fakes["w-1"])
			j, asked := joining(t, n)
			run(t, TLSBootstrap(n.joiners, j))
			file, ok := n.fakes["w-1"].Get(config.BootstrapKubeletConf)
			if ok != (tt.token != "") || !strings.Contains(string(file.Data), tt.token) || *asked != tt.asked {
				t.Errorf("asked %d times for a token; the file is there: %t", *asked, ok)
			}
		})
	}
}

func TestTLSBootstrapWithoutAToken(t *testing.T) {
	n := newNetwork(t, "w-1")
	j, _ := joining(t, n)
	refused := errors.New("forbidden")
	j.token = func(context.Context) (kube.Token, error) { return kube.Token{}, refused }
	_, err := new(workflow.Runner).Run(t.Context(), TLSBootstrap(n.joiners, j))
	if !errors.Is(err, refused) || len(n.fakes["w-1"].Writes()) > 0 {
		t.Errorf("got %v, wrote %q", err, n.fakes["w-1"].Writes())
	}
}

// cut is a host that is cut off after so many files.
type cut struct {
	*hosttest.Fake
	left int
}

func (c *cut) WriteFiles(ctx context.Context, files ...host.File) error {
	for _, f := range files {
		if c.left--; c.left < 0 {
			return errors.New("cut off")
		}
		if err := c.Fake.WriteFiles(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func TestTLSBootstrapGoesOnAfterACut(t *testing.T) {
	for left := range 2 {
		n := newNetwork(t, "w-1")
		c := &cut{n.fakes["w-1"], left}
		n.joiners[0].Host = c
		j, _ := joining(t, n)
		if _, err := new(workflow.Runner).Run(t.Context(), TLSBootstrap(n.joiners, j)); err == nil {
			t.Fatalf("it was not cut after %d", left)
		}
		c.left = 9
		j, _ = joining(t, n) // another process
		run(t, TLSBootstrap(n.joiners, j))
		if got := check(t, TLSBootstrap(n.joiners, j), n.joiners[0]); len(got) > 0 {
			t.Errorf("cut after %d, there is left %q", left, got)
		}
	}
}

func readyNode(name string, ready corev1.ConditionStatus, heartbeat time.Time) *corev1.Node {
	return &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: ready, LastHeartbeatTime: metav1.NewTime(heartbeat),
		}}},
	}
}

func TestNodeReadyWaitsAndTakesTheTokenAway(t *testing.T) {
	n := newNetwork(t, "w-1")
	w, f := n.joiners[0], n.fakes["w-1"]
	f.Put(host.File{Path: config.BootstrapKubeletConf, Mode: 0o600, Data: []byte("token")})
	j, _ := joining(t, n)
	j.given("w-1", testNow)
	n.server.Put(t, readyNode("w-1", corev1.ConditionTrue, testNow.Add(-time.Minute))) // left by an earlier life of the host
	p := NodeReady(n.cluster, n.joiners, j, time.Minute)
	want := []string{"run Node w-1", "delete " + config.BootstrapKubeletConf}
	if diff := cmp.Diff(want, check(t, p, w)); diff != "" {
		t.Errorf("before the kubelet has started (-want +got):\n%s", diff)
	}
	f.Put(n.kubeletConf())
	if diff := cmp.Diff(want, check(t, p, w)); diff != "" {
		t.Errorf("while the kubelet waits for its certificate (-want +got):\n%s", diff)
	}

	f.OnPrefix("sh", "-c").Do(func(_ *hosttest.Fake, cmd host.Cmd) ([]byte, error) { // the wait for a file
		n.joined("w-1")
		return nil, nil
	})
	f.On("systemctl", "restart", "kubelet.service").Changes() // a kubelet that has its certificate is hastened
	watched := false
	n.server.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("watch") != "" && !watched {
			watched = true
			if _, ok := f.Get(config.BootstrapKubeletConf); !ok {
				t.Error("the token was taken away before the node was Ready")
			}
			n.server.Put(t, readyNode("w-1", corev1.ConditionTrue, testNow))
		}
		return false
	}
	run(t, p)
	if len(f.Runs()) != 1 {
		t.Errorf("the kubelet was not restarted once: %q", f.Runs())
	}
	if _, ok := f.Get(config.BootstrapKubeletConf); ok || !watched {
		t.Errorf("the token is left: %t; waited for the node: %t", ok, watched)
	}
	f.ResetRecord()
	if summary := run(t, p); summary.Changes != 0 || len(f.Removed()) > 0 {
		t.Errorf("running it again makes %d changes", summary.Changes)
	}
}

func TestNodeThatDoesNotBecomeReady(t *testing.T) {
	n := newNetwork(t, "w-1")
	n.joined("w-1")
	n.server.Put(t, readyNode("w-1", corev1.ConditionFalse, testNow))
	j, _ := joining(t, n)
	f := n.fakes["w-1"]
	f.OnPrefix("sh", "-c").Do(func(_ *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		if cmd.Argv[len(cmd.Argv)-1] == "kubelet" {
			return []byte("cni plugin not initialized\n"), nil
		}
		return nil, nil
	})
	f.Put(host.File{Path: config.BootstrapKubeletConf, Mode: 0o600, Data: []byte("token")})
	_, err := new(workflow.Runner).Run(t.Context(), NodeReady(n.cluster, n.joiners, j, time.Millisecond))
	if err == nil || !strings.Contains(err.Error(), "w-1: node-ready: ") || !strings.Contains(err.Error(), "cni plugin not initialized") {
		t.Errorf("got %v", err)
	}
	if _, ok := f.Get(config.BootstrapKubeletConf); !ok {
		t.Error("the token was taken away although the node is not Ready")
	}
}
