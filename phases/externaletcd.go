package phases

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"time"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// ExternalEtcd gives control planes what the document has of an external etcd: its authority and a client's certificate.
// They stand where kubeadm looks for them. With a stacked etcd there are no hosts for it.
func ExternalEtcd(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	external := c.Config.Spec.Etcd.External
	if external == nil {
		nodes = nil
	}
	render := func(context.Context, host.Reader) ([]host.File, error) {
		ca, cert, key, err := readExternal(external)
		return []host.File{
			{Path: config.PKIDir + "/etcd/ca.crt", Mode: 0o644, Data: ca},
			{Path: config.PKIDir + "/apiserver-etcd-client.crt", Mode: 0o644, Data: cert},
			{Path: config.PKIDir + "/apiserver-etcd-client.key", Mode: 0o600, Data: key},
		}, err
	}
	return workflow.Phase{
		Name:  "external-etcd",
		Short: "give the control planes the certificates of the external etcd",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			return diffRendered(ctx, r, render)
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			return writeRendered(ctx, h, render, changes)
		},
	}
}

// readExternal reads the operator's files.
func readExternal(external *config.ExternalEtcd) (ca, cert, key []byte, err error) {
	for _, file := range []struct {
		field, path string
		data        *[]byte
	}{{"caFile", external.CAFile, &ca}, {"certFile", external.CertFile, &cert}, {"keyFile", external.KeyFile, &key}} {
		if *file.data, err = os.ReadFile(file.path); err != nil {
			return nil, nil, nil, fmt.Errorf("spec.etcd.external.%s: %w", file.field, err)
		}
	}
	return ca, cert, key, nil
}

// externalTimeout is how long an external etcd may take to answer.
const externalTimeout = 5 * time.Second

// judgeExternalEtcd has a control plane ask the external etcd whether it can work with it. Files that are not the
// operator's, because the cluster has them already, were good enough for its API servers.
func judgeExternalEtcd(ctx context.Context, c *cluster.Cluster, n *cluster.Node) []Finding {
	external := c.Config.Spec.Etcd.External
	if external == nil || !n.Spec.HasRole(config.RoleControlPlane) {
		return nil
	}
	ca, cert, key, err := readExternal(external)
	if errors.Is(err, fs.ErrNotExist) && external.CAFile == config.PKIDir+"/etcd/ca.crt" {
		return nil
	}
	const name = "ExternalEtcd"
	if err != nil {
		return fatal(true, name, "%v", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fatal(true, name, "spec.etcd.external.certFile and keyFile: %v; hint: give a client certificate and its key, in PEM form", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return fatal(true, name, "spec.etcd.external.caFile holds no certificate; hint: give the CA of etcd's servers, in PEM form")
	}
	client, err := etcd.Connect(etcd.Options{
		Endpoints: external.Endpoints, Timeout: externalTimeout, Dial: n.Dial,
		TLS: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
	})
	if err != nil {
		return fatal(true, name, "%v", err)
	}
	defer client.Close()
	var all []Finding
	for _, endpoint := range external.Endpoints {
		if _, err := client.Status(ctx, endpoint); err != nil {
			all = append(all, fatal(true, name, "%s does not answer as etcd to this host: %v; hint: check spec.etcd.external, and the way there", hostOf(endpoint), err)...)
		}
	}
	if err := client.Health(ctx); err != nil && len(all) == 0 {
		all = fatal(true, name, "the external etcd has no quorum: %v; hint: start its members", err)
	}
	return all
}

// hostOf is the host:port of a URL, or the URL itself.
func hostOf(endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		return u.Host
	}
	return endpoint
}
