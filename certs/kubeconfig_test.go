package certs_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/myadm/myadm/certs"
)

const (
	adminConf   = "/etc/kubernetes/admin.conf"
	kubeletConf = "/etc/kubernetes/kubelet.conf"
	kubeletPEM  = "/var/lib/kubelet/pki/kubelet-client-current.pem"
)

func load(t *testing.T, data []byte) *api.Config {
	t.Helper()
	conf, err := clientcmd.Load(data)
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

// edit changes a kubeconfig that has one of each.
func edit(t *testing.T, have certs.Files, path string, change func(*api.Config, *api.Cluster, *api.AuthInfo)) {
	t.Helper()
	conf := load(t, have[path])
	inUse := conf.Contexts[conf.CurrentContext]
	change(conf, conf.Clusters[inUse.Cluster], conf.AuthInfos[inUse.AuthInfo])
	data, err := clientcmd.Write(*conf)
	if err != nil {
		t.Fatal(err)
	}
	have[path] = data
}

// clientOf is the certificate that a kubeconfig embeds.
func clientOf(t *testing.T, have certs.Files, path string) *x509.Certificate {
	t.Helper()
	conf := load(t, have[path])
	user := conf.AuthInfos[conf.Contexts[conf.CurrentContext].AuthInfo]
	if _, err := tls.X509KeyPair(user.ClientCertificateData, user.ClientKeyData); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return parse(t, user.ClientCertificateData)
}

func TestKubeconfigs(t *testing.T) {
	s := settings()
	s.Endpoint, s.ClusterName = "api.example.org:8443", "prod"
	have := issued(t, s)
	for _, test := range []struct{ file, user, server string }{
		{"admin.conf", "kubernetes-admin", "https://api.example.org:8443"},
		{"super-admin.conf", "kubernetes-super-admin", "https://api.example.org:8443"},
		{"kubelet.conf", "system:node:h1", "https://10.89.0.11:6443"},
		{"controller-manager.conf", "system:kube-controller-manager", "https://10.89.0.11:6443"},
		{"scheduler.conf", "system:kube-scheduler", "https://10.89.0.11:6443"},
	} {
		t.Run(test.file, func(t *testing.T) {
			conf := load(t, have["/etc/kubernetes/"+test.file])
			if conf.CurrentContext != test.user+"@prod" || len(conf.Contexts) != 1 || len(conf.Clusters) != 1 || len(conf.AuthInfos) != 1 {
				t.Fatalf("context %s", conf.CurrentContext)
			}
			if c := conf.Contexts[conf.CurrentContext]; c.Cluster != "prod" || c.AuthInfo != test.user {
				t.Errorf("context %+v", c)
			}
			cluster, user := conf.Clusters["prod"], conf.AuthInfos[test.user]
			if cluster.Server != test.server || !bytes.Equal(cluster.CertificateAuthorityData, have[pki+"ca.crt"]) {
				t.Errorf("cluster points at %s", cluster.Server)
			}
			if _, err := tls.X509KeyPair(user.ClientCertificateData, user.ClientKeyData); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFlawedKubeconfigIsIssuedAnew(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*api.Config, *api.Cluster, *api.AuthInfo)
		reason string
	}{
		{"server", func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) { c.Server = "https://192.0.2.1:6443" },
			"points at https://192.0.2.1:6443, not at https://10.89.0.11:6443"},
		{"no context", func(f *api.Config, _ *api.Cluster, _ *api.AuthInfo) { f.CurrentContext = "" }, "current context is incomplete"},
		{"no user", func(f *api.Config, _ *api.Cluster, _ *api.AuthInfo) { f.AuthInfos = nil }, "current context is incomplete"},
		{"no CA", func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) { c.CertificateAuthorityData = nil },
			"does not trust what " + pki + "ca.crt holds"},
		{"insecure", func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) { c.InsecureSkipTLSVerify = true },
			"does not trust what " + pki + "ca.crt holds"},
		{"token instead of certificate", func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) { *u = api.AuthInfo{Token: "x"} }, "missing"},
		{"file that is not there", func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) {
			u.ClientCertificateData, u.ClientCertificate = nil, "/tmp/admin.crt"
		}, "certificate missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := settings()
			have := issued(t, s)
			edit(t, have, adminConf, test.change)
			mends(t, have, s, certs.Finding{Name: "admin.conf", Paths: []string{adminConf}, Reason: test.reason})
		})
	}

	t.Run("another CA", func(t *testing.T) {
		s := settings()
		have := issued(t, s)
		edit(t, have, adminConf, func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) {
			c.CertificateAuthorityData = have[pki+"etcd/ca.crt"]
		})
		mends(t, have, s, certs.Finding{Name: "admin.conf", Paths: []string{adminConf}, Reason: "does not trust what " + pki + "ca.crt holds"})
	})
	t.Run("somebody else's certificate", func(t *testing.T) {
		s := settings()
		have := issued(t, s)
		have[adminConf] = have["/etc/kubernetes/super-admin.conf"]
		mends(t, have, s, certs.Finding{Name: "admin.conf", Paths: []string{adminConf}, Reason: `issued to "kubernetes-super-admin", not to "kubernetes-admin"`})
	})
}

// A kubeconfig may name the CA's file instead of embedding it.
func TestKubeconfigNamesCA(t *testing.T) {
	have := issued(t, settings())
	edit(t, have, adminConf, func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) {
		c.CertificateAuthorityData, c.CertificateAuthority = nil, pki+"ca.crt"
	})
	if findings := check(t, have, settings()); len(findings) > 0 {
		t.Errorf("findings %+v", findings)
	}
}

// While a CA is rotated, ca.crt holds the old one as well: what it signed stays, and kubeconfigs learn to trust both.
func TestTwoCAs(t *testing.T) {
	s := settings()
	have, other := issued(t, s), issued(t, s)
	have[pki+"ca.crt"] = slices.Concat(other[pki+"ca.crt"], have[pki+"ca.crt"])
	have[pki+"ca.key"] = other[pki+"ca.key"]
	for _, f := range check(t, have, s) {
		if !strings.HasSuffix(f.Name, ".conf") {
			t.Errorf("finding %+v", f)
		}
	}
	have = write(have, issue(t, have, s)...)
	conf := load(t, have[adminConf])
	if !bytes.Equal(conf.Clusters["kubernetes"].CertificateAuthorityData, have[pki+"ca.crt"]) {
		t.Error("admin.conf does not trust both")
	}
	cert := parse(t, conf.AuthInfos["kubernetes-admin"].ClientCertificateData)
	if err := cert.CheckSignatureFrom(parse(t, other[pki+"ca.crt"])); err != nil {
		t.Errorf("not signed by the first: %v", err)
	}
	if findings := check(t, have, s); len(findings) > 0 {
		t.Errorf("Check after Issue: %+v", findings)
	}
}

// rotating is a host whose kubelet has put its certificate where it renews it, and whose kubelet.conf follows.
func rotating(t *testing.T) certs.Files {
	t.Helper()
	have := issued(t, settings())
	user := load(t, have[kubeletConf]).AuthInfos["system:node:h1"]
	have[kubeletPEM] = slices.Concat(user.ClientCertificateData, user.ClientKeyData)
	out, changed, err := certs.FollowRotation(have[kubeletConf])
	if err != nil || !changed {
		t.Fatalf("FollowRotation: changed %t, %v", changed, err)
	}
	have[kubeletConf] = out
	return have
}

func TestFollowRotation(t *testing.T) {
	have := rotating(t)
	user := load(t, have[kubeletConf]).AuthInfos["system:node:h1"]
	if user.ClientCertificate != kubeletPEM || user.ClientKey != kubeletPEM || user.ClientCertificateData != nil || user.ClientKeyData != nil {
		t.Error("kubelet.conf does not name the rotated file, and it alone")
	}
	again, changed, err := certs.FollowRotation(have[kubeletConf])
	if err != nil || changed || !bytes.Equal(again, have[kubeletConf]) {
		t.Errorf("twice: changed %t, %v", changed, err)
	}
	if _, _, err := certs.FollowRotation([]byte("[")); err == nil {
		t.Error("garbage: no error")
	}
	if findings := check(t, have, settings()); len(findings) > 0 {
		t.Errorf("findings %+v", findings)
	}
}

// Whatever the cluster signs for the kubelet later is fine; so is a kubelet.conf that the kubelet wrote itself.
func TestRotatedKubeletCertificate(t *testing.T) {
	have := rotating(t)
	cert, key := forge(t, have, "ca", nodeClient)
	have[kubeletPEM] = append(cert, key...)
	if findings := check(t, have, settings()); len(findings) > 0 {
		t.Errorf("findings %+v", findings)
	}

	conf := api.NewConfig()
	conf.Clusters["default-cluster"] = &api.Cluster{Server: "https://10.89.0.11:6443", CertificateAuthority: pki + "ca.crt"}
	conf.AuthInfos["default-auth"] = &api.AuthInfo{ClientCertificate: kubeletPEM, ClientKey: kubeletPEM}
	conf.Contexts["default-context"] = &api.Context{Cluster: "default-cluster", AuthInfo: "default-auth", Namespace: "default"}
	conf.CurrentContext = "default-context"
	data, err := clientcmd.Write(*conf)
	if err != nil {
		t.Fatal(err)
	}
	have[kubeletConf] = data
	if findings := check(t, have, settings()); len(findings) > 0 {
		t.Errorf("findings %+v", findings)
	}
}

// The kubelet falls back to what kubelet.conf embeds when its own certificate is gone or expired.
func TestKubeletGetsANewStart(t *testing.T) {
	want := certs.Finding{Name: "kubelet.conf", Paths: []string{kubeletConf}}
	t.Run("gone", func(t *testing.T) {
		have := rotating(t)
		delete(have, kubeletPEM)
		want.Reason = "missing"
		mends(t, have, settings(), want)
	})
	t.Run("expired", func(t *testing.T) {
		have := rotating(t)
		cert, key := forge(t, have, "ca", func(c *x509.Certificate) { nodeClient(c); c.NotAfter = now.Add(-time.Second) })
		have[kubeletPEM] = append(cert, key...)
		want.Reason = "expired on 2026-11-22 11:59:59Z"
		mends(t, have, settings(), want)
	})
}

// A kubelet prefers the file to kubelet.conf, so that nothing else helps while the file is wrong.
func TestForeignKubeletCertificate(t *testing.T) {
	t.Run("another cluster's", func(t *testing.T) {
		have := issued(t, settings())
		have[kubeletPEM] = rotating(t)[kubeletPEM]
		_, err := certs.Check(have, settings(), now)
		wantLines(t, err, []string{kubeletPEM + ": not signed by ca; hint: remove it when another cluster left it, else put the cluster's CA at " + pki + "ca.crt"})
	})
	t.Run("another node's", func(t *testing.T) {
		have := rotating(t)
		s := settings()
		s.NodeName = "h2"
		_, err := certs.Check(have, s, now)
		wantLines(t, err, []string{kubeletPEM + `: issued to "system:node:h1", not to "system:node:h2"; hint: `})
	})
	t.Run("the CA is gone", func(t *testing.T) {
		have := rotating(t)
		delete(have, pki+"ca.crt")
		delete(have, pki+"ca.key")
		_, err := certs.Check(have, settings(), now)
		wantLines(t, err, []string{kubeletPEM + ": signed by a CA that is not on this host; hint: "})
	})
	t.Run("garbage", func(t *testing.T) {
		have := rotating(t)
		have[kubeletPEM] = []byte("?")
		_, err := certs.Check(have, settings(), now)
		wantLines(t, err, []string{kubeletPEM + ": no certificate in PEM form; hint: ", kubeletPEM + ": no private key in PEM form; hint: "})
	})
}

// A control plane whose address or endpoint changes goes on with the credentials of its kubeconfigs, and needs no CA's key
// for that.
func TestServerChangesAlone(t *testing.T) {
	s := settings()
	have := rotating(t)
	edit(t, have, adminConf, func(f *api.Config, _ *api.Cluster, _ *api.AuthInfo) {
		f.Clusters["mine"] = &api.Cluster{Server: "https://192.0.2.1:6443"}
	})
	s.Endpoint, s.LocalEndpoint, s.SANs = "10.89.0.11:8443", "h1:6443", []string{"h1"}
	for _, ca := range []string{"ca", "front-proxy-ca", "etcd/ca"} {
		delete(have, pki+ca+".key")
	}
	files := issue(t, have, s)
	if len(files) != 5 {
		t.Errorf("made %v", paths(files))
	}
	after := write(have, files...)
	if rest := check(t, after, s); len(rest) > 0 {
		t.Errorf("Check after Issue: %+v", rest)
	}
	for _, f := range files {
		before, now := load(t, have[f.Path]), load(t, f.Data)
		inUse := now.Contexts[now.CurrentContext]
		want := "https://h1:6443"
		if strings.HasSuffix(f.Path, "admin.conf") {
			want = "https://10.89.0.11:8443"
		}
		if got := now.Clusters[inUse.Cluster].Server; got != want {
			t.Errorf("%s points at %s, want %s", f.Path, got, want)
		}
		now.Clusters[inUse.Cluster].Server = before.Clusters[inUse.Cluster].Server
		if !reflect.DeepEqual(before, now) {
			t.Errorf("%s: more than the server was changed", f.Path)
		}
	}
}

func TestPointAt(t *testing.T) {
	conf := issued(t, settings())[adminConf]
	moved, changed, err := certs.PointAt(conf, "https://api.example.org:6443")
	if err != nil || !changed || load(t, moved).Clusters["kubernetes"].Server != "https://api.example.org:6443" {
		t.Errorf("changed %t, %v", changed, err)
	}
	again, changed, err := certs.PointAt(moved, "https://api.example.org:6443")
	if err != nil || changed || !bytes.Equal(again, moved) {
		t.Errorf("twice: changed %t, %v", changed, err)
	}
	for text, want := range map[string]string{"[": "not a kubeconfig", "{}": "current context is incomplete"} {
		if _, _, err := certs.PointAt([]byte(text), "https://a:1"); err == nil || err.Error() != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestBootstrapKubeconfig(t *testing.T) {
	ca := issued(t, settings())[pki+"ca.crt"]
	data, err := certs.BootstrapKubeconfig("https://10.89.0.11:6443", ca, "abcdef.0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	conf := load(t, data)
	if conf.CurrentContext != "tls-bootstrap-token-user@kubernetes" {
		t.Errorf("context %s", conf.CurrentContext)
	}
	cluster, user := conf.Clusters["kubernetes"], conf.AuthInfos["tls-bootstrap-token-user"]
	if cluster == nil || user == nil {
		t.Fatalf("kubeconfig\n%s", data)
	}
	if cluster.Server != "https://10.89.0.11:6443" || !bytes.Equal(cluster.CertificateAuthorityData, ca) || user.Token != "abcdef.0123456789abcdef" {
		t.Errorf("kubeconfig\n%s", data)
	}
}
