package join

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

const balancer = "https://127.0.0.1:6444"

// equipping is a realm and the phase that gives its joiners their credentials.
func equipping(t testing.TB, joiners ...string) (*network, *Joining, workflow.Phase) {
	t.Helper()
	n := newRealm(t, config.LoadBalancerNodeLocal, nil, joiners...)
	n.cluster.Config.Spec.LoadBalancer.Type = config.LoadBalancerNodeLocal
	j := newJoining()
	j.pki, j.signs = phases.SharedPKI(n.cluster, n.cluster.Nodes[0]), true
	return n, j, Credentials(n.cluster, n.joiners, j)
}

// kubeletUser is where a kubelet goes, and as whom.
func kubeletUser(t testing.TB, f *hosttest.Fake) (server string, user *api.AuthInfo) {
	t.Helper()
	file, ok := f.Get(config.KubeletConf)
	if !ok {
		t.Fatalf("%s has no kubeconfig", f.Name())
	}
	conf, err := clientcmd.Load(file.Data)
	if err != nil {
		t.Fatal(err)
	}
	current := conf.Contexts[conf.CurrentContext]
	return conf.Clusters[current.Cluster].Server, conf.AuthInfos[current.AuthInfo]
}

func settled(t testing.TB, p workflow.Phase, f *hosttest.Fake) {
	t.Helper()
	f.ResetRecord()
	if summary := run(t, p); summary.Changes != 0 || len(f.Writes())+len(f.Runs()) > 0 {
		t.Errorf("running it again makes %d changes: wrote %q, ran %q", summary.Changes, f.Writes(), f.Runs())
	}
}

func TestCredentialsConverge(t *testing.T) {
	n, j, p := equipping(t, "w-1")
	f := n.fakes["w-1"]
	if diff := cmp.Diff([]string{"create " + caPath, "create " + config.KubeletConf}, check(t, p, n.joiners[0])); diff != "" {
		t.Errorf("on a blank host (-want +got):\n%s", diff)
	}
	run(t, p)
	for path, mode := range map[string]uint32{caPath: 0o644, config.KubeletConf: 0o600} {
		if file, ok := f.Get(path); !ok || uint32(file.Mode) != mode {
			t.Errorf("%s: there %t, mode %04o", path, ok, file.Mode)
		}
	}
	if got := f.Writes(); len(got) != 2 {
		t.Errorf("a worker was given %q", got) // above all not the CA's key
	}
	server, user := kubeletUser(t, f)
	chain, err := certs.ParseCertificates(user.ClientCertificateData)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := certs.ParseCertificates(n.content(t, "cp-1", "/ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	subject := chain[0].Subject
	if server != balancer || subject.CommonName != "system:node:w-1" || !slices.Equal(subject.Organization, []string{"system:nodes"}) {
		t.Errorf("the kubelet goes to %s as %s", server, subject)
	}
	if err := chain[0].CheckSignatureFrom(ca[0]); err != nil {
		t.Error(err)
	}
	if !j.wasGiven("w-1") {
		t.Error("nobody knows since when the node's kubelet is a new one")
	}
	settled(t, p, f)
}

// stoppable lets a kubelet be stopped, which happens before anything of its is changed.
func stoppable(t testing.TB, f *hosttest.Fake) *hosttest.Rule {
	before, _ := f.Get(config.KubeletConf)
	return f.On("systemctl", "stop", "kubelet.service").Changes().Do(func(f *hosttest.Fake, _ host.Cmd) ([]byte, error) {
		if now, _ := f.Get(config.KubeletConf); string(now.Data) != string(before.Data) {
			t.Error("the kubelet was stopped only when its kubeconfig was another")
		}
		return nil, nil
	})
}

func repointed(t testing.TB, f *hosttest.Fake, server string) {
	t.Helper()
	file, _ := f.Get(config.KubeletConf)
	conf, _, err := certs.PointAt(file.Data, server)
	if err != nil {
		t.Fatal(err)
	}
	f.Put(host.File{Path: config.KubeletConf, Mode: 0o600, Data: conf})
}

// follows makes a host's kubelet.conf one that names the certificate which the kubelet renews.
func follows(t testing.TB, f *hosttest.Fake) {
	t.Helper()
	_, user := kubeletUser(t, f)
	pem := slices.Concat(user.ClientCertificateData, user.ClientKeyData)
	file, _ := f.Get(config.KubeletConf)
	conf, _, err := certs.FollowRotation(file.Data)
	if err != nil {
		t.Fatal(err)
	}
	f.Put(host.File{Path: config.KubeletConf, Mode: 0o600, Data: conf}, host.File{Path: config.KubeletClientCert, Mode: 0o600, Data: pem})
}

// When the endpoint moves, a kubelet goes there with the certificate that it has, and is stopped to be started anew.
func TestCredentialsAreKeptWhenTheEndpointMoves(t *testing.T) {
	for _, tt := range []struct {
		name    string
		arrange func(t testing.TB, f *hosttest.Fake)
		from    string
	}{
		{"a certificate that is embedded", func(testing.TB, *hosttest.Fake) {}, "https://" + apiServer},
		{"a certificate that is renewed", follows, "https://" + apiServer},
		{"a worker that was a control plane", follows, "https://10.0.0.2:6443"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, _, p := equipping(t, "w-1")
			f := n.fakes["w-1"]
			run(t, p)
			tt.arrange(t, f)
			repointed(t, f, tt.from)
			_, before := kubeletUser(t, f)
			stop := stoppable(t, f)
			if diff := cmp.Diff([]string{"update " + config.KubeletConf}, check(t, p, n.joiners[0])); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			run(t, p)
			server, after := kubeletUser(t, f)
			if diff := cmp.Diff(before, after); diff != "" || server != balancer {
				t.Errorf("the kubelet goes to %s (-before +after):\n%s", server, diff)
			}
			if stop.Calls() != 1 {
				t.Errorf("the kubelet was stopped %d times", stop.Calls())
			}
			settled(t, p, f)
		})
	}
}

func TestCredentialsThatDoNotServe(t *testing.T) {
	for _, tt := range []struct {
		name    string
		arrange func(t testing.TB, n *network, f *hosttest.Fake)
		want    []string
		stops   int
	}{
		{"the kubeconfig is gone", func(_ testing.TB, _ *network, f *hosttest.Fake) { f.Delete(config.KubeletConf) },
			[]string{"create " + config.KubeletConf}, 0},
		{"the certificate has expired", func(_ testing.TB, n *network, _ *hosttest.Fake) {
			n.cluster.Now = func() time.Time { return time.Now().Add(2 * 365 * 24 * time.Hour) }
		}, []string{"update " + config.KubeletConf}, 1},
		{"it is of another node", func(_ testing.TB, n *network, _ *hosttest.Fake) { n.joiners[0].Spec.Name = "w-2" },
			[]string{"update " + config.KubeletConf}, 1},
		{"the CA is another cluster's", func(t testing.TB, _ *network, f *hosttest.Fake) {
			f.Put(host.File{Path: caPath, Mode: 0o644, Data: newCA(t)})
		}, []string{"update " + caPath}, 0},
		{"the CA has a line more", func(t testing.TB, n *network, f *hosttest.Fake) {
			f.Put(host.File{Path: caPath, Mode: 0o644, Data: append(n.content(t, "cp-1", "/ca.crt"), '\n')})
		}, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, _, p := equipping(t, "w-1")
			f := n.fakes["w-1"]
			run(t, p)
			tt.arrange(t, n, f)
			stop := stoppable(t, f)
			if diff := cmp.Diff(tt.want, check(t, p, n.joiners[0])); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			run(t, p)
			if stop.Calls() != tt.stops {
				t.Errorf("the kubelet was stopped %d times, want %d", stop.Calls(), tt.stops)
			}
			settled(t, p, f)
		})
	}
}

// What another cluster's kubelet has left is not ours to judge.
func TestCredentialsOfAKubeletOfAnotherCluster(t *testing.T) {
	other, _, foreign := equipping(t, "w-1")
	run(t, foreign)
	follows(t, other.fakes["w-1"])
	n, _, p := equipping(t, "w-1")
	left, _ := other.fakes["w-1"].Get(config.KubeletClientCert)
	n.fakes["w-1"].Put(left)
	_, err := new(workflow.Runner).Run(t.Context(), p)
	if want := config.KubeletClientCert + ": not signed by ca; hint: "; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// The kubelet of a control plane begins at the endpoint of all nodes. Once it has come to the API server beside it, it is
// left there.
func TestCredentialsOfAControlPlane(t *testing.T) {
	n, _, p := equipping(t, "cp-2")
	f := n.fakes["cp-2"]
	run(t, p)
	if server, _ := kubeletUser(t, f); server != balancer {
		t.Errorf("the kubelet begins at %s", server)
	}
	repointed(t, f, "https://10.0.0.2:6443")
	settled(t, p, f)
	repointed(t, f, "https://"+apiServer) // but not at another's
	if diff := cmp.Diff([]string{"update " + config.KubeletConf}, check(t, p, n.joiners[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// While the first control plane is being made, there is nothing to sign with.
func TestCredentialsWaitForTheCA(t *testing.T) {
	n, j, p := equipping(t, "w-1")
	j.pki = func(context.Context) (certs.Files, error) { return certs.Files{}, nil }
	if diff := cmp.Diff([]string{"create " + config.KubeletConf}, check(t, p, n.joiners[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := p.Apply(t.Context(), n.joiners[0], nil); err == nil || !strings.Contains(err.Error(), "hint: run myadm init first") {
		t.Errorf("got %v", err)
	}
	gone := errors.New("gone")
	j.pki = func(context.Context) (certs.Files, error) { return nil, gone }
	if _, err := p.Check(t.Context(), n.joiners[0]); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

func TestCredentialsGoOnAfterACut(t *testing.T) {
	for left := range 2 {
		n, _, p := equipping(t, "w-1")
		c := &cut{n.fakes["w-1"], left}
		n.joiners[0].Host = c
		if _, err := new(workflow.Runner).Run(t.Context(), p); err == nil {
			t.Fatalf("it was not cut after %d", left)
		}
		c.left = 9
		run(t, p)
		if got := check(t, p, n.joiners[0]); len(got) > 0 {
			t.Errorf("cut after %d, there is left %q", left, got)
		}
	}
}
