// Package join turns prepared hosts into nodes of a running cluster: it finds out about the cluster, either by a
// bootstrap token (discovery.go) or from the control plane of the document, and lists the phases that a host goes
// through until its Node is Ready.
package join

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

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

	IgnorePreflight []string
	Patience        time.Duration // for a node to become Ready
}

// ErrNoToken says that nothing was given that a host that has not joined yet could join with.
var ErrNoToken = errors.New("there is no token to join with; hint: --token and --discovery-token-ca-cert-hash as `myadm token create --print-join-command` prints them, or -f with a document that names the control plane")

// Joining is what a host needs to know of the cluster that it joins.
type Joining struct {
	Server  string // URL of the API
	CA      []byte // PEM
	kubelet []byte // KubeletConfiguration of the cluster

	token  func(ctx context.Context) (kube.Token, error)
	minted *minted      // nil when tokens are not ours to make
	admin  *kube.Client // nil when there is no control plane in the document

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
// nothing on a host. In this order: through the document's control plane, as a host that has joined already, by token.
func Prepare(ctx context.Context, c *cluster.Cluster, nodes []*cluster.Node, opts Options) (*Joining, error) {
	j := &Joining{equipped: map[string]time.Time{}}
	client, err := j.connect(ctx, c, nodes, opts)
	if err != nil {
		return nil, err
	}
	if err := j.learn(ctx, c, client); err != nil {
		return nil, err
	}
	return j, nil
}

func (j *Joining) connect(ctx context.Context, c *cluster.Cluster, nodes []*cluster.Node, opts Options) (*kube.Client, error) {
	if len(c.ControlPlanes()) > 0 {
		return j.asAdmin(ctx, c)
	}
	for _, n := range nodes {
		joined, err := exists(ctx, n, config.KubeletConf)
		if err != nil {
			return nil, err
		}
		if !joined {
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

// asAdmin learns of the cluster from the control plane of the document, and makes tokens there.
func (j *Joining) asAdmin(ctx context.Context, c *cluster.Cluster) (*kube.Client, error) {
	client, err := c.Kube(ctx)
	if err != nil {
		return nil, err
	}
	n := c.ControlPlanes()[0]
	if j.CA, err = n.ReadFile(ctx, config.PKIDir+"/ca.crt"); err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name(), err)
	}
	j.admin, j.Server = client, "https://"+c.Config.Endpoint()
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
	j.Server, j.CA = info.Server, info.CA
	j.token = func(context.Context) (kube.Token, error) { return opts.Token, nil }
	return TokenClient(info, opts.Token, n.Dial, kube.Options{Version: c.Version})
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
	data, err := n.ReadFile(ctx, config.KubeletConf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name(), err)
	}
	client, err := kube.Connect(data, n.Dial, kube.Options{
		ReadFile: func(path string) ([]byte, error) { return n.ReadFile(ctx, path) },
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", n.Name(), config.KubeletConf, err)
	}
	return client, nil
}

// learn reads what the cluster says of itself into the document: versions, networks and the kubelet's configuration are
// the cluster's, whatever the document says of them.
func (j *Joining) learn(ctx context.Context, c *cluster.Cluster, client *kube.Client) error {
	kubeadm, err := configMap(ctx, client, manifests.KubeadmConfigName)
	if err != nil {
		return err
	}
	if err := config.FromKubeadm([]byte(kubeadm.Data[manifests.KubeadmConfigKey]), c.Config); err != nil {
		return fmt.Errorf("ConfigMap kube-system/kubeadm-config: %w", err)
	}
	c.Config.Spec.Networking.Plugin = cmp.Or(kubeadm.Annotations[phases.NetworkPlugin], config.PluginNone)

	kubelet, err := configMap(ctx, client, manifests.KubeletConfigName)
	if err != nil {
		return err
	}
	j.kubelet = []byte(kubelet.Data[manifests.KubeletConfigKey])
	var fields map[string]any
	if err := yaml.Unmarshal(j.kubelet, &fields); err != nil || len(fields) == 0 {
		return fmt.Errorf("ConfigMap kube-system/kubelet-config: key kubelet holds no KubeletConfiguration; hint: myadm init phase upload-config writes it anew")
	}
	c.Config.Spec.Kubelet = fields

	if c.Bundle != nil {
		return upgrade.CheckKubelet(c.Config.Spec.KubernetesVersion, c.Bundle.Index.KubernetesVersion)
	}
	return nil
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
