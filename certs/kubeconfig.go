package certs

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/keyutil"

	"github.com/myadm/myadm/config"
)

// BootstrapKubeconfig returns the kubeconfig with which a kubelet asks for its certificate: it trusts the CAs of caPEM and
// presents a bootstrap token. server is a URL.
func BootstrapKubeconfig(server string, caPEM []byte, token string) ([]byte, error) {
	return render(server, "kubernetes", "tls-bootstrap-token-user", caPEM, &api.AuthInfo{Token: token})
}

// FollowRotation returns a kubelet.conf that names config.KubeletClientCert as client certificate and key, instead of
// embedding them. A kubelet that was started with embedded ones has put them there, renews them there, and finds the
// renewed ones when it starts the next time; it need not be restarted. It reports false, and returns conf, when nothing is
// embedded.
//
// The file is the kubelet's to make: a symbolic link. When it finds a regular file there, it never renews its certificate.
func FollowRotation(conf []byte) ([]byte, bool, error) {
	current, err := parseKubeconfig(conf)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w; hint: %s", config.KubeletConf, err, replaceOrRemove)
	}
	_, user := inUse(current)
	if user == nil || len(user.ClientCertificateData) == 0 && len(user.ClientKeyData) == 0 {
		return conf, false, nil
	}
	user.ClientCertificate, user.ClientCertificateData = config.KubeletClientCert, nil
	user.ClientKey, user.ClientKeyData = config.KubeletClientCert, nil
	out, err := clientcmd.Write(*current)
	return out, err == nil, err
}

// PointAt returns a kubeconfig whose current context has another server, a URL, and is as it was otherwise. It reports
// false, and returns conf, when that is its server already. A kubeconfig without a current context is an error.
func PointAt(conf []byte, server string) (out []byte, changed bool, err error) {
	current, err := parseKubeconfig(conf)
	if err != nil {
		return nil, false, err
	}
	cluster, _ := inUse(current)
	switch {
	case cluster == nil:
		return nil, false, errors.New("current context is incomplete")
	case cluster.Server == server:
		return conf, false, nil
	}
	cluster.Server = server
	out, err = clientcmd.Write(*current)
	return out, err == nil, err
}

// render returns a kubeconfig with one cluster and one user, under kubeadm's names.
func render(server, cluster, user string, caPEM []byte, auth *api.AuthInfo) ([]byte, error) {
	name := user + "@" + cluster
	return clientcmd.Write(api.Config{
		Clusters:       map[string]*api.Cluster{cluster: {Server: server, CertificateAuthorityData: caPEM}},
		AuthInfos:      map[string]*api.AuthInfo{user: auth},
		Contexts:       map[string]*api.Context{name: {Cluster: cluster, AuthInfo: user}},
		CurrentContext: name,
	})
}

// parseKubeconfig reads a kubeconfig. Its errors hold none of it: what cannot be parsed may be a key.
func parseKubeconfig(data []byte) (*api.Config, error) {
	conf, err := clientcmd.Load(data)
	if err != nil {
		return nil, errors.New("not a kubeconfig")
	}
	return conf, nil
}

// inUse returns what the current context joins. Either may be nil.
func inUse(conf *api.Config) (*api.Cluster, *api.AuthInfo) {
	context := conf.Contexts[conf.CurrentContext]
	if context == nil {
		return nil, nil
	}
	return conf.Clusters[context.Cluster], conf.AuthInfos[context.AuthInfo]
}

// content is what a kubeconfig embeds, else what stands in the file that it names; nil when that does not exist.
func (f Files) content(embedded []byte, path string) []byte {
	if len(embedded) > 0 {
		return embedded
	}
	return f[path]
}

// credentials returns a user's client certificate and key. Each is nil when it is not there.
func (f Files) credentials(user *api.AuthInfo) (chain []*x509.Certificate, key crypto.Signer, err error) {
	if data := f.content(user.ClientCertificateData, user.ClientCertificate); data != nil {
		if chain, err = ParseCertificates(data); err != nil {
			return nil, nil, err
		}
	}
	if data := f.content(user.ClientKeyData, user.ClientKey); data != nil {
		if key, err = parseKey(data); err != nil {
			return nil, nil, err
		}
	}
	return chain, key, nil
}

// kubeconfig looks at a kubeconfig and at the certificate that its user presents.
func (v *surveyor) kubeconfig(k kubeconfig) {
	ca := v.authorities[rootCA]
	conf, ok := parsed(v, k.path, parseKubeconfig)
	if !ok || ca.broken || !v.current(k, ca) {
		return
	}
	reason, err := v.kubeconfigFlaw(k, conf, ca)
	if err != nil {
		v.fail(k.path, replaceOrRemove, "client certificate: %w", err)
		return
	}
	switch {
	case reason == "":
		v.server(k, conf)
	case v.canSign(ca, k.path, reason):
		v.add(k.name, reason, nil, func(key crypto.Signer) ([]File, error) {
			return v.makeKubeconfig(k, ca, key)
		}, k.path)
	}
}

// server looks at where a kubeconfig points that is sound otherwise. Its credentials are good anywhere, and stay.
func (v *surveyor) server(k kubeconfig, conf *api.Config) {
	cluster, _ := inUse(conf)
	want := k.server(v.settings)
	if cluster.Server == want {
		return
	}
	v.tasks = append(v.tasks, &task{
		Finding: Finding{k.name, []string{k.path}, fmt.Sprintf("points at %s, not at %s", cluster.Server, want)},
		keyless: true,
		issue: func(crypto.Signer) ([]File, error) {
			out, _, err := PointAt(v.have[k.path], want)
			return []File{{k.path, modeSecret, out}}, err
		},
	})
}

// current looks at the file where the client keeps the certificate that it renews. It may be missing or expired, then the
// client goes back to what the kubeconfig embeds. Any other flaw locks the client out, whatever the kubeconfig says, and
// tells that the file or the CA is another cluster's: only a human knows which of them is wanted here.
func (v *surveyor) current(k kubeconfig, ca *authority) bool {
	chain, okCert := parsed(v, k.current, ParseCertificates)
	key, okKey := parsed(v, k.current, parseKey)
	if !okCert || !okKey {
		return false
	}
	if chain == nil || v.now.After(chain[0].NotAfter) {
		return true
	}
	reason := v.flaw(chain, key, k.identity, ca)
	if ca.chain == nil {
		reason = "signed by a CA that is not on this host"
	}
	if reason != "" {
		v.fail(k.current, fmt.Sprintf("remove it when another cluster left it, else put the cluster's CA at %s", ca.certPath()), "%s", reason)
	}
	return reason == ""
}

// kubeconfigFlaw says why a kubeconfig does not serve, wherever it points; conf is nil when there is none.
func (v *surveyor) kubeconfigFlaw(k kubeconfig, conf *api.Config, ca *authority) (string, error) {
	if conf == nil {
		return "missing", nil
	}
	if ca.chain == nil {
		return ca.name + " is new", nil
	}
	cluster, user := inUse(conf)
	if cluster == nil || user == nil {
		return "current context is incomplete", nil
	}
	trusted, err := ParseCertificates(v.have.content(cluster.CertificateAuthorityData, cluster.CertificateAuthority))
	if err != nil || !slices.EqualFunc(trusted, ca.chain, (*x509.Certificate).Equal) || cluster.InsecureSkipTLSVerify {
		return "does not trust what " + ca.certPath() + " holds", nil
	}
	chain, key, err := v.have.credentials(user)
	if err != nil {
		return "", err
	}
	return v.flaw(chain, key, k.identity, ca), nil
}

// makeKubeconfig has the root CA sign a certificate for the key and embeds both.
func (v *surveyor) makeKubeconfig(k kubeconfig, ca *authority, key crypto.Signer) ([]File, error) {
	cert, err := v.issue(k.identity, ca, key.Public())
	if err != nil {
		return nil, err
	}
	private, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, err
	}
	auth := &api.AuthInfo{ClientCertificateData: encodeCertificates([]*x509.Certificate{cert}), ClientKeyData: private}
	user := k.commonName(v.settings)
	data, err := render(k.server(v.settings), v.settings.ClusterName, user, encodeCertificates(ca.chain), auth)
	return []File{{k.path, modeSecret, data}}, err
}
