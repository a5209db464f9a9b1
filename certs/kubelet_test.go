package certs_test

import (
	"bytes"
	"crypto/x509"
	"maps"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/myadm/myadm/certs"
)

// worker is the settings of a host with a load balancer of its own, and what it is lent: the cluster's CA with its key.
func worker(t *testing.T) (certs.Settings, certs.Files) {
	t.Helper()
	s := settings()
	s.First, s.NodeName, s.Endpoint = false, "w1", "127.0.0.1:6444"
	first := issued(t, settings())
	return s, certs.Files{pki + "ca.crt": first[pki+"ca.crt"], pki + "ca.key": first[pki+"ca.key"]}
}

func checkKubelet(t *testing.T, have certs.Files, s certs.Settings) []certs.Finding {
	t.Helper()
	findings, err := certs.CheckKubelet(have, s, now)
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

func issueKubelet(t *testing.T, have certs.Files, s certs.Settings) []certs.File {
	t.Helper()
	files, err := certs.IssueKubelet(have, s, now)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// mendsKubelet proves that kubelet.conf is found at fault, that it alone is made, and that all is well then.
func mendsKubelet(t *testing.T, have certs.Files, s certs.Settings, reason string) certs.Files {
	t.Helper()
	findings := checkKubelet(t, have, s)
	if len(findings) != 1 || findings[0].Name != "kubelet.conf" || findings[0].Reason != reason {
		t.Fatalf("findings %+v, want kubelet.conf: %s", findings, reason)
	}
	files := issueKubelet(t, have, s)
	if len(files) != 1 || files[0].Path != kubeletConf || files[0].Mode != 0o600 {
		t.Fatalf("made %v", paths(files))
	}
	after := write(have, files...)
	if rest := checkKubelet(t, after, s); len(rest) > 0 {
		t.Errorf("CheckKubelet after IssueKubelet: %+v", rest)
	}
	return after
}

func TestKubeletOfAWorker(t *testing.T) {
	s, have := worker(t)
	have = mendsKubelet(t, have, s, "missing")
	cert := clientOf(t, have, kubeletConf)
	if cert.Subject.CommonName != "system:node:w1" || strings.Join(cert.Subject.Organization, ",") != "system:nodes" {
		t.Errorf("the kubelet is %s", cert.Subject)
	}
	cluster := load(t, have[kubeletConf]).Clusters[s.ClusterName]
	if cluster.Server != "https://127.0.0.1:6444" || !bytes.Equal(cluster.CertificateAuthorityData, have[pki+"ca.crt"]) {
		t.Errorf("it asks %s", cluster.Server)
	}
}

func TestFlawsOfAWorkersKubelet(t *testing.T) {
	for _, test := range []struct {
		name   string
		edit   func(t *testing.T, have certs.Files)
		reason string
	}{
		{"expired", func(t *testing.T, have certs.Files) {
			cert, key := forge(t, have, "ca", func(c *x509.Certificate) { workerClient(c); c.NotAfter = now.Add(-time.Second) })
			edit(t, have, kubeletConf, func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) {
				u.ClientCertificateData, u.ClientKeyData = cert, key
			})
		}, "expired on 2026-11-22 11:59:59Z"},
		{"another node's", func(t *testing.T, have certs.Files) {
			cert, key := forge(t, have, "ca", nodeClient)
			edit(t, have, kubeletConf, func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) {
				u.ClientCertificateData, u.ClientKeyData = cert, key
			})
		}, `issued to "system:node:h1", not to "system:node:w1"`},
		{"another cluster's", func(t *testing.T, have certs.Files) {
			other, theirs := worker(t)
			have[kubeletConf] = issueKubelet(t, theirs, other)[0].Data
		}, "does not trust what " + pki + "ca.crt holds"},
		{"its own certificate is gone", func(t *testing.T, have certs.Files) {
			edit(t, have, kubeletConf, func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) {
				*u = api.AuthInfo{ClientCertificate: kubeletPEM, ClientKey: kubeletPEM}
			})
		}, "missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, have := worker(t)
			have = write(have, issueKubelet(t, have, s)...)
			test.edit(t, have)
			mendsKubelet(t, have, s, test.reason)
		})
	}
}

// A worker whose endpoint changes goes on with its certificate, and that needs nobody's key.
func TestEndpointOfAWorkerChanges(t *testing.T) {
	s, have := worker(t)
	have = write(have, issueKubelet(t, have, s)...)
	cert, key := forge(t, have, "ca", workerClient)
	have[kubeletPEM] = append(cert, key...)
	conf, _, err := certs.FollowRotation(have[kubeletConf])
	if err != nil {
		t.Fatal(err)
	}
	have[kubeletConf] = conf
	delete(have, pki+"ca.key")
	s.Endpoint = "api.example.org:6443"
	after := mendsKubelet(t, have, s, "points at https://127.0.0.1:6444, not at https://api.example.org:6443")
	user := load(t, after[kubeletConf]).AuthInfos["system:node:w1"]
	if user.ClientCertificate != kubeletPEM || user.ClientKey != kubeletPEM || user.ClientCertificateData != nil {
		t.Error("kubelet.conf names other credentials")
	}
}

func workerClient(c *x509.Certificate) {
	nodeClient(c)
	c.Subject.CommonName = "system:node:w1"
}

func TestKubeletThatCannotBeMended(t *testing.T) {
	s, lent := worker(t)
	s.First = true // whatever it says: a CA is never made for a worker
	for _, test := range []struct {
		name string
		edit func(have certs.Files)
		want string
	}{
		{"no CA", func(have certs.Files) { delete(have, pki+"ca.crt") }, pki + "ca.crt: missing; hint: "},
		{"no CA's key", func(have certs.Files) { delete(have, pki+"ca.key") },
			kubeletConf + ": missing, and the key to sign another is not on this host; hint: "},
		{"another cluster's certificate", func(have certs.Files) { have[kubeletPEM] = rotating(t)[kubeletPEM] },
			kubeletPEM + ": not signed by ca; hint: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			have := maps.Clone(lent)
			test.edit(have)
			_, err := certs.CheckKubelet(have, s, now)
			wantLines(t, err, []string{test.want})
			if files, err := certs.IssueKubelet(have, s, now); err == nil {
				t.Errorf("IssueKubelet made %v", paths(files))
			}
		})
	}
	s.NodeName = ""
	if _, err := certs.CheckKubelet(lent, s, now); err == nil {
		t.Error("settings are not checked")
	}
}
