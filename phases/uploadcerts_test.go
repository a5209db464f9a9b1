package phases

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
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

var kubeadmCerts = kube.Ref{APIVersion: "v1", Kind: "Secret", Namespace: "kube-system", Name: "kubeadm-certs"}

func newKey(t testing.TB) certs.CertificateKey {
	t.Helper()
	key, err := certs.NewCertificateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func uploaded(t *testing.T, s *kubetest.Server) *corev1.Secret {
	t.Helper()
	secret, err := kube.Get[corev1.Secret](t.Context(), s.Client(t, kube.Options{}), kubeadmCerts)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// What is kept in the cluster is what the control plane has, for the one with the key, and for two hours.
func TestUploadCerts(t *testing.T) {
	c, s := withAPI(t)
	key := newKey(t)
	p := UploadCerts(c, c.Nodes[0], key)
	var told []string
	r := workflow.Runner{Report: func(e workflow.Event) {
		data, err := json.Marshal(e)
		if err != nil {
			t.Error(err)
		}
		told = append(told, string(data))
	}}
	if summary, err := r.Run(t.Context(), p); err != nil || summary.Changes != 1 {
		t.Fatalf("%d changes, %v", summary.Changes, err)
	}
	secret := uploaded(t, s)
	got, err := certs.Decrypt(secret.Data, key, false)
	if err != nil {
		t.Fatal(err)
	}
	m := c.Nodes[0].Host.(*machine)
	for _, path := range certs.SharedPaths(false) {
		if plain := content(t, m, path); !bytes.Equal(got[path], plain) {
			t.Errorf("%s is not what the control plane has", path)
		}
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(certs.SharedPaths(false))), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	for _, text := range append(told, secret.String()) {
		if strings.Contains(text, key.Reveal()) || strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("a secret is told: %s", text)
		}
	}

	owners := secret.OwnerReferences
	if len(owners) != 1 || owners[0].Kind != "Secret" || owners[0].Controller == nil || !*owners[0].Controller {
		t.Fatalf("owners %+v", owners)
	}
	owner := s.Object(kube.Ref{APIVersion: "v1", Kind: "Secret", Namespace: "kube-system", Name: owners[0].Name})
	if owner == nil || owner.GetUID() != owners[0].UID {
		t.Fatalf("its owner is not there: %+v", owners)
	}
	tokens, err := kube.ListTokens(t.Context(), s.Client(t, kube.Options{}))
	if err != nil || len(tokens) != 1 {
		t.Fatalf("%d tokens, %v", len(tokens), err)
	}
	if token := tokens[0]; token.Expires == nil || token.Expires.Sub(testNow) != 2*time.Hour || len(token.Usages)+len(token.Groups) > 0 {
		t.Errorf("its owner ends at %v, and is good for %v as %v", token.Expires, token.Usages, token.Groups)
	}

	version := s.Version()
	if summary := run(t, p); summary.Changes != 0 || s.Version() != version {
		t.Errorf("running it again makes %d changes", summary.Changes)
	}
}

func TestUploadCertsAnew(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, c *cluster.Cluster, s *kubetest.Server, key *certs.CertificateKey)
		want   string
	}{
		{"another key", func(t *testing.T, _ *cluster.Cluster, _ *kubetest.Server, key *certs.CertificateKey) {
			*key = newKey(t)
		}, "update"},
		{"a Secret that was cut", func(t *testing.T, _ *cluster.Cluster, s *kubetest.Server, _ *certs.CertificateKey) {
			o := s.Object(kubeadmCerts)
			set(t, o, "AAAA", "data", "ca.key")
			s.Put(t, o)
		}, "update"},
		{"a Secret that lacks a file", func(t *testing.T, _ *cluster.Cluster, s *kubetest.Server, _ *certs.CertificateKey) {
			o := s.Object(kubeadmCerts)
			data := o.Object["data"].(map[string]any)
			delete(data, "sa.key")
			s.Put(t, o)
		}, "update"},
		{"it has expired", func(_ *testing.T, _ *cluster.Cluster, s *kubetest.Server, _ *certs.CertificateKey) {
			s.Remove(kubeadmCerts)
		}, "create"},
		{"the control plane has other files", func(t *testing.T, c *cluster.Cluster, _ *kubetest.Server, _ *certs.CertificateKey) {
			m := c.Nodes[0].Host.(*machine)
			m.touch(config.PKIDir+"/sa.pub", 0o600, string(content(t, m, config.PKIDir+"/sa.pub"))+"\n")
		}, "update"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, s := withAPI(t)
			key := newKey(t)
			run(t, UploadCerts(c, c.Nodes[0], key))
			tt.change(t, c, s, &key)
			p := UploadCerts(c, c.Nodes[0], key) // another run of myadm
			todo, err := p.Check(t.Context(), nil)
			if err != nil || len(todo) != 1 || string(todo[0].Action) != tt.want {
				t.Errorf("to do: %v, %v, want to %s", todo, err, tt.want)
			}
			run(t, p)
			if _, err := certs.Decrypt(uploaded(t, s).Data, key, false); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUploadCertsWithoutAKeyOrACluster(t *testing.T) {
	c, s := withAPI(t)
	version := s.Version()
	if summary := run(t, UploadCerts(c, c.Nodes[0], certs.CertificateKey{})); summary.Changes != 0 || s.Version() != version {
		t.Errorf("without a key, %d changes are made", summary.Changes)
	}
	blank, _ := testCluster(t, "cp-1")
	todo, err := UploadCerts(blank, blank.Nodes[0], newKey(t)).Check(t.Context(), nil)
	if err != nil || len(todo) != 1 || todo[0].Object != kubeadmCerts.String() {
		t.Errorf("without a cluster: %v, %v", todo, err)
	}
	if err := UploadCerts(blank, blank.Nodes[0], newKey(t)).Apply(t.Context(), nil, nil); err == nil {
		t.Error("without a cluster: no error")
	}
	c.Rand = strings.NewReader("") // no randomness, no Secret
	_, err = new(workflow.Runner).Run(t.Context(), UploadCerts(c, c.Nodes[0], newKey(t)))
	if err == nil || s.Object(kubeadmCerts) != nil {
		t.Errorf("got %v", err)
	}
	gone := errors.New("gone")
	c.Nodes[0].Host.(*machine).Lose(gone)
	if _, err := UploadCerts(c, c.Nodes[0], newKey(t)).Check(t.Context(), nil); !errors.Is(err, gone) {
		t.Errorf("of a host that is lost: %v", err)
	}
}
