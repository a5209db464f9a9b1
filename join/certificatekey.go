package join

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
)

// ErrNoCertificateKey says that a control plane is to join by token, and nothing was given to read the PKI with.
var ErrNoCertificateKey = errors.New("a control plane needs what all control planes share; hint: --certificate-key as `myadm init phase upload-certs` prints it, or -f with a document that names a control plane of the cluster")

// gainAdmin gives control planes that join by token what they need beyond it: the PKI, from Secret kubeadm-certs or from
// an earlier run, and with it the rights of an administrator and a way to etcd. Workers need neither.
func (j *Joining) gainAdmin(ctx context.Context, c *cluster.Cluster, nodes []*cluster.Node, opts Options) error {
	servers := controlPlanes(nodes)
	if j.administers || len(servers) == 0 {
		return nil
	}
	n := servers[0]
	shared, err := j.sharedBy(ctx, c, n, opts)
	if err != nil {
		return err
	}
	j.pki = func(context.Context) (certs.Files, error) { return shared, nil }
	_, j.signs = shared[caKey]

	own, err := certs.Issue(shared, phases.CertSettings(c, n, false), c.Now())
	if err != nil {
		return err
	}
	files := certs.Files{}
	for path, data := range shared {
		files[path] = data
	}
	for _, f := range own {
		files[f.Path] = f.Data
	}
	conf, _, err := certs.PointAt(files[config.AdminConf], j.Server)
	if err != nil {
		return err
	}
	admin, err := kube.Connect(conf, n.Dial, kube.Options{Version: c.Version})
	if err != nil {
		return err
	}
	j.administers = true
	j.etcd = once(func(ctx context.Context) (*etcd.Client, error) { return connectEtcd(ctx, admin, n, files) })
	return nil
}

// once keeps the client that connect gives: it is asked for with every look at etcd, and has connections of its own.
func once(connect phases.EtcdClient) phases.EtcdClient {
	var mu sync.Mutex
	var client *etcd.Client
	return func(ctx context.Context) (*etcd.Client, error) {
		mu.Lock()
		defer mu.Unlock()
		if client != nil {
			return client, nil
		}
		var err error
		client, err = connect(ctx)
		return client, err
	}
}

// sharedBy is what the control planes share: as the host has it from an earlier run, else as the cluster keeps it.
func (j *Joining) sharedBy(ctx context.Context, c *cluster.Cluster, n *cluster.Node, opts Options) (certs.Files, error) {
	external := c.Config.Spec.Etcd.External != nil
	paths := certs.SharedPaths(external)
	have, err := phases.SharedPKI(c, n)(ctx)
	if err != nil || len(have) == len(paths) {
		return have, err
	}
	if opts.CertificateKey == (certs.CertificateKey{}) {
		return nil, ErrNoCertificateKey
	}
	ref := kube.Ref{APIVersion: "v1", Kind: "Secret", Namespace: "kube-system", Name: manifests.KubeadmCertsName}
	secret, err := kube.Get[corev1.Secret](ctx, j.asToken, ref)
	if kube.NotFound(err) {
		return nil, fmt.Errorf("%w; hint: it lives for two hours, and `myadm init phase upload-certs` on a control plane makes it anew", err)
	}
	if err != nil {
		return nil, err
	}
	shared, err := certs.Decrypt(secret.Data, opts.CertificateKey, external)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	for _, path := range paths {
		if shared[path] == nil {
			return nil, fmt.Errorf("%s lacks %s; hint: `myadm init phase upload-certs` on a control plane that has it", ref, path)
		}
	}
	return shared, nil
}

// etcdPods are the mirror pods of etcd's members. An annotation, kubeadm's and ours, says where each serves clients.
var etcdPods = kube.Selector{APIVersion: "v1", Kind: "Pod", Namespace: "kube-system", Labels: "component=" + manifests.EtcdName}

// connectEtcd reaches etcd's members from the host that joins.
func connectEtcd(ctx context.Context, admin kube.Reader, n *cluster.Node, files certs.Files) (*etcd.Client, error) {
	pods, err := kube.List[corev1.Pod](ctx, admin, etcdPods)
	if err != nil {
		return nil, err
	}
	var endpoints []string
	for _, pod := range pods {
		if url := pod.Annotations[manifests.EtcdURLsAnnotation]; url != "" && pod.Spec.NodeName != n.Spec.Name {
			endpoints = append(endpoints, strings.Split(url, ",")...)
		}
	}
	if len(endpoints) == 0 {
		return nil, errors.New("found no pod of etcd in kube-system; hint: is etcd external? then spec.etcd.external says where")
	}
	pair, err := tls.X509KeyPair(files[config.PKIDir+"/etcd/healthcheck-client.crt"], files[config.PKIDir+"/etcd/healthcheck-client.key"])
	if err != nil {
		return nil, fmt.Errorf("etcd's client certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(files[config.PKIDir+"/etcd/ca.crt"])
	return etcd.Connect(etcd.Options{
		Endpoints: endpoints,
		TLS:       &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12},
		Dial:      n.Dial,
	})
}
