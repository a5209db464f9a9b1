// Package join turns prepared hosts into nodes of a running cluster, workers and control planes: it finds out about the
// cluster, either by a bootstrap token (discovery.go) or from a control plane of the document, and lists the phases that a
// host goes through until its Node is Ready.
package join

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/upgrade"
)

// Options are the user's word on a join.
type Options struct {
	Endpoint     string     // host:port of the API; empty with a document
	Token        kube.Token // the zero Token with a document: one is made
	CACertHashes []string   // pins of the cluster's CA
	SkipCAPin    bool       // trust whoever holds the token; the user said so explicitly

	CertificateKey certs.CertificateKey // of Secret kubeadm-certs, for control planes that join by token; else the zero key

	IgnorePreflight []string
	Patience        time.Duration // for a node to become Ready
}

// ErrNoToken says that nothing was given that a host that has not joined yet could join with.
var ErrNoToken = errors.New("there is no token to join with; hint: --token and --discovery-token-ca-cert-hash as `myadm token create --print-join-command` prints them, or -f with a document that names the control plane")

// ErrNoEndpoint says that a control plane is to join a cluster by token whose endpoint is its one control plane: the other
// hosts have to follow a new endpoint, and there is no way to them.
var ErrNoEndpoint = errors.New("the cluster has no endpoint that several control planes could share; hint: join with -f and a document that names all hosts of the cluster, or start clusters that are to grow by token with `myadm init --load-balancer node-local`")

// Joining is what a host needs to know of the cluster that it joins.
type Joining struct {
	Server  string                 // URL of the API, for a host that has nothing yet
	CA      []byte                 // PEM
	kubelet func() ([]byte, error) // KubeletConfiguration of the cluster

	token       func(ctx context.Context) (kube.Token, error)
	asToken     *kube.Client      // the API as a bearer of the token; nil without one
	minted      *minted           // nil when tokens are not ours to make
	pki         phases.PKI        // nil when there is no way to what control planes share
	etcd        phases.EtcdClient // likewise
	signs       bool              // the PKI has the key of the cluster's CA
	administers bool              // there is a way to act as the administrator
	moves       bool              // the cluster gets an endpoint with this join, which does not answer yet

	mu       sync.Mutex
	equipped map[string]time.Time // hosts that this run gave its token, and when, on the host's clock
}

func (j *Joining) given(name string, at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.equipped[name] = at
}

func (j *Joining) wasGiven(name string) bool { return !j.since(name).IsZero() }

// since is when this run gave a host its token; the zero time when it did not.
func (j *Joining) since(name string) time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.equipped[name]
}

// Prepare finds out about the cluster and completes c's document with what the cluster says of itself. It changes
// nothing on a host. In this order: through a control plane of the document, as a host that has joined already, by token.
// present are the document's control planes that are in the cluster, nodes the hosts that are to be.
func Prepare(ctx context.Context, c *cluster.Cluster, present, nodes []*cluster.Node, opts Options) (*Joining, error) {
	j := newJoining()
	client, err := j.connect(ctx, c, present, nodes, opts)
	if err != nil {
		return nil, err
	}
	if err := j.learn(ctx, c, client); err != nil {
		return nil, err
	}
	if kind := c.Config.Spec.LoadBalancer.Type; len(present) > 0 && kind != "" && kind != config.LoadBalancerNodeLocal && !j.moves {
		j.Server = "https://" + c.Config.Endpoint()
	}
	return j, j.gainAdmin(ctx, c, nodes, opts)
}

// Fresh is what hosts need to know of a cluster that is being made of the document, by founder.
func Fresh(c *cluster.Cluster, founder *cluster.Node) *Joining {
	j := newJoining()
	j.kubelet, j.administers, j.signs = phases.KubeletConfig(c), true, true
	j.pki, j.etcd = phases.SharedPKI(c, founder), c.Etcd
	return j
}

func newJoining() *Joining { return &Joining{equipped: map[string]time.Time{}} }

func (j *Joining) connect(ctx context.Context, c *cluster.Cluster, present, nodes []*cluster.Node, opts Options) (*kube.Client, error) {
	if len(present) > 0 {
		return j.asAdmin(ctx, c, present[0])
	}
	if opts.Token == (kube.Token{}) && len(c.ControlPlanes()) > 0 {
		return nil, cluster.ErrNoCluster
	}
	for _, n := range nodes {
		joined, err := exists(ctx, n, config.KubeletConf)
		if err != nil {
			return nil, err
		}
		// A control plane that was cut half-way has a kubeconfig for an API server that does not run yet.
		if !joined || n.Spec.HasRole(config.RoleControlPlane) {
			return j.byToken(ctx, c, n, opts)
		}
	}
	if len(nodes) == 0 {
		return nil, errors.New("there is no host to join")
	}
	return j.asNode(ctx, nodes[0])
}

func exists(ctx context.Context, r host.Reader, path string) (bool, error) {
	infos, err := r.Stat(ctx, path)
	if err != nil {
		return false, fmt.Errorf("%s: %w", r.Name(), err)
	}
	return infos[0].Exists, nil
}

// asAdmin learns of the cluster from a control plane of the document. Certificates are signed with its key, or, where the
// CA's key is elsewhere, tokens are made there.
func (j *Joining) asAdmin(ctx context.Context, c *cluster.Cluster, n *cluster.Node) (*kube.Client, error) {
	client, err := c.Kube(ctx)
	if err != nil {
		return nil, err
	}
	if j.CA, err = n.ReadFile(ctx, caCert); err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name(), err)
	}
	if j.signs, err = exists(ctx, n, caKey); err != nil {
		return nil, err
	}
	j.administers, j.Server = true, client.Server()
	j.pki, j.etcd = phases.SharedPKI(c, n), c.Etcd
	j.minted = &minted{client: client, rand: c.Rand, now: c.Now}
	j.token = j.minted.get
	return client, nil
}

// byToken discovers the cluster through a host that is to join, so that the operator needs no route to the API.
func (j *Joining) byToken(ctx context.Context, c *cluster.Cluster, n *cluster.Node, opts Options) (*kube.Client, error) {
	if opts.Token == (kube.Token{}) {
		return nil, ErrNoToken
	}
	info, err := Discover(ctx, DiscoverOptions{
		Endpoint: opts.Endpoint, Token: opts.Token, CACertHashes: opts.CACertHashes, SkipCAPin: opts.SkipCAPin, Dial: n.Dial,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: discover the cluster: %w", n.Name(), err)
	}
	// Whoever answered is known to be of the cluster. The server that cluster-info names may be one that is down.
	j.Server, j.CA = "https://"+opts.Endpoint, info.CA
	j.token = func(context.Context) (kube.Token, error) { return opts.Token, nil }
	info.Server = j.Server
	j.asToken, err = TokenClient(info, opts.Token, n.Dial, kube.Options{Version: c.Version})
	return j.asToken, err
}

// asNode learns of the cluster as a host that has joined already: the token may be long gone.
func (j *Joining) asNode(ctx context.Context, n *cluster.Node) (*kube.Client, error) {
	client, err := NodeClient(ctx, n)
	if err != nil {
		return nil, err
	}
	if j.CA, err = n.ReadFile(ctx, config.PKIDir+"/ca.crt"); err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name(), err)
	}
	j.Server = client.Server()
	j.token = func(context.Context) (kube.Token, error) {
		return kube.Token{}, errors.New("the host has joined and needs no token")
	}
	return client, nil
}

// NodeClient is the API as a node's kubelet sees it, with the kubelet's own certificate.
func NodeClient(ctx context.Context, n *cluster.Node) (*kube.Client, error) {
	// kubelet.conf names the file as that of the certificate and of the key: it is read once, while kubelet.conf is.
	found, err := phases.ReadFiles(ctx, n, []string{config.KubeletConf, config.KubeletClientCert})
	if err == nil && found[config.KubeletConf] == nil {
		err = fmt.Errorf("read %s: %w", config.KubeletConf, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name(), err)
	}
	client, err := kube.Connect(found[config.KubeletConf], n.Dial, kube.Options{
		ReadFile: func(path string) ([]byte, error) {
			if data, ok := found[path]; ok {
				return data, nil
			}
			return n.ReadFile(ctx, path)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", n.Name(), config.KubeletConf, err)
	}
	return client, nil
}

// learn reads what the cluster says of itself into the document: versions, networks, the endpoint and the kubelet's
// configuration are the cluster's, whatever the document says of them.
func (j *Joining) learn(ctx context.Context, c *cluster.Cluster, client *kube.Client) error {
	wanted := c.Config.Spec.LoadBalancer
	if _, err := c.Learn(ctx, client); err != nil {
		return err
	}
	if err := j.chooseBalancer(c, wanted); err != nil {
		return err
	}
	kubelet, err := configMap(ctx, client, manifests.KubeletConfigName)
	if err != nil {
		return err
	}
	shared := []byte(kubelet.Data[manifests.KubeletConfigKey])
	j.kubelet = func() ([]byte, error) { return shared, nil }
	if c.Config.Spec.Kubelet, err = fields(shared); err != nil {
		return fmt.Errorf("ConfigMap kube-system/kubelet-config: key kubelet holds no KubeletConfiguration; hint: myadm init phase upload-config writes it anew")
	}
	if j.administers {
		if err := learnKubeProxy(ctx, c, client); err != nil {
			return err
		}
	}
	if c.Bundle != nil {
		return upgrade.CheckKubelet(c.Config.Spec.KubernetesVersion, c.Bundle.Index.KubernetesVersion)
	}
	return nil
}

// chooseBalancer gives a cluster without an endpoint the one that the document wants, as soon as it has several control
// planes.
func (j *Joining) chooseBalancer(c *cluster.Cluster, wanted config.LoadBalancer) error {
	spec := &c.Config.Spec
	if spec.LoadBalancer.Type != "" || len(c.APIServers()) < 2 {
		return nil
	}
	if !j.administers {
		return ErrNoEndpoint
	}
	spec.LoadBalancer, j.moves = wanted, true
	if wanted.Type == config.LoadBalancerKeepalived {
		spec.ControlPlaneEndpoint = "" // was the one control plane
	}
	if wanted.Type == "" || wanted.Type == config.LoadBalancerExternal {
		spec.LoadBalancer = config.LoadBalancer{Type: config.LoadBalancerNodeLocal, Port: config.DefaultLoadBalancerPort}
	}
	return nil
}

// learnKubeProxy keeps kube-proxy's configuration as it is, when its kubeconfig has to follow the endpoint.
func learnKubeProxy(ctx context.Context, c *cluster.Cluster, client *kube.Client) error {
	proxy, err := configMap(ctx, client, manifests.KubeProxyName)
	if kube.NotFound(err) {
		return nil // the cluster goes without
	}
	if err != nil {
		return err
	}
	if c.Config.Spec.KubeProxy, err = fields([]byte(proxy.Data[manifests.KubeProxyConfigKey])); err != nil {
		return fmt.Errorf("ConfigMap kube-system/kube-proxy: key %s holds no KubeProxyConfiguration; hint: myadm init phase addons writes it anew", manifests.KubeProxyConfigKey)
	}
	return nil
}

// fields are those of a component's configuration, of which there is at least one.
func fields(data []byte) (map[string]any, error) {
	var all map[string]any
	if err := yaml.Unmarshal(data, &all); err != nil || len(all) == 0 {
		return nil, errors.New("no fields")
	}
	return all, nil
}

func configMap(ctx context.Context, r kube.Reader, name string) (*corev1.ConfigMap, error) {
	return kube.Get[corev1.ConfigMap](ctx, r, kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: name})
}

// endpoint is the API's host:port.
func (j *Joining) endpoint() string {
	u, err := url.Parse(j.Server)
	if err != nil {
		return ""
	}
	return u.Host
}

// Close removes the token that was made for this join, if one was.
func (j *Joining) Close(ctx context.Context) error {
	if j.minted == nil {
		return nil
	}
	return j.minted.remove(ctx)
}
