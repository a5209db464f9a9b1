package apply

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
)

// fixed is what a cluster keeps for its life: the flags in which its static pods have it, the fields of the document that
// say it, and why it stays.
var fixed = []struct{ component, flag, field, why string }{
	{manifests.APIServerName, "service-cluster-ip-range", "spec.networking.serviceSubnet", "Services have addresses of it, in their objects and in what clients remember"},
	{manifests.APIServerName, "service-account-issuer", "spec.networking.dnsDomain", "it is in every pod's resolv.conf and in the tokens of service accounts"},
	{manifests.APIServerName, "secure-port", "spec.apiServerPort", "all kubeconfigs name it"},
	{manifests.ControllerManagerName, "cluster-cidr", "spec.networking.podSubnet", "nodes have shares of it, and pods addresses"},
	{manifests.ControllerManagerName, "cluster-name", "metadata.name", "it is in kubeconfigs, and cloud resources are named by it"},
	{manifests.EtcdName, "data-dir", "spec.etcd.dataDir", "etcd's data is there"},
}

// CheckFixed refuses a document that wants of a running cluster what cannot be changed while it runs. All of it is told.
func CheckFixed(ctx context.Context, c *cluster.Cluster, s *State) error {
	servers, _ := split(s.Members)
	servers = append([]*cluster.Node{s.Founder}, without(servers, s.Founder)...) // an earlier run may have brought it half-way
	pods := make([]podFlags, len(servers))
	var told *config.Cluster
	g, asking := errgroup.WithContext(ctx)
	for i, n := range servers {
		g.Go(func() (err error) {
			if pods[i], err = readPodFlags(asking, c, n); err != nil && n == s.Founder { // what is wrong with others is told where they are changed
				return fmt.Errorf("%s: %w", n.Name(), err)
			}
			return nil
		})
	}
	g.Go(func() (err error) {
		told, err = whatIsTold(asking, c)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	have, want := pods[0].have, pods[0].want
	if len(have[manifests.APIServerName]) == 0 {
		return nil // there is none yet
	}
	var errs []error
	refuseUnless := func(otherwise, field, is, wants, why string) {
		errs = append(errs, fmt.Errorf("%s: the cluster has %s, and the document wants %s: it cannot be changed in a running cluster, since %s; hint: write %s again, or %s", field, is, wants, why, is, otherwise))
	}
	refuse := func(field, is, wants, why string) { refuseUnless("make a new cluster", field, is, wants, why) }
	for _, f := range fixed {
		is, wants := have[f.component][f.flag], want[f.component][f.flag]
		if is != "" && wants != "" && is != wants {
			refuse(f.field, is, wants, f.why)
		}
	}
	for i, n := range servers {
		is, wants := etcdAddress(pods[i].have), etcdAddress(pods[i].want)
		if is != "" && wants != "" && is != wants {
			refuseUnless("take the host out with myadm reset and in again", "spec.hosts, advertiseAddress of "+n.Name(), is, wants, "the members of etcd know each other by it")
		}
	}
	if stacked := len(have[manifests.EtcdName]) > 0; stacked && c.Config.Spec.Etcd.External != nil {
		refuse("spec.etcd.external", "a stacked etcd", "an external one", "its data would stay behind")
	}
	if servers := have[manifests.APIServerName]["etcd-servers"]; len(have[manifests.EtcdName]) == 0 && c.Config.Spec.Etcd.External == nil &&
		servers != want[manifests.APIServerName]["etcd-servers"] {
		refuse("spec.etcd", "the etcd "+servers, "one of its own", "its data would stay behind")
	}
	if told != nil {
		spec, was := c.Config.Spec, told.Spec
		for _, f := range []struct{ field, is, wants, why string }{
			{"spec.certificates.keyAlgorithm", was.Certificates.KeyAlgorithm, spec.Certificates.KeyAlgorithm, "its authority has a key of that kind, which everything signed by it is checked with"},
			{"spec.networking.plugin", was.Networking.Plugin, spec.Networking.Plugin, "pods would lose their network"},
			{"spec.loadBalancer.type", was.LoadBalancer.Type, spec.LoadBalancer.Type, "all kubeconfigs name the endpoint that it makes"},
		} {
			if f.is != "" && f.is != f.wants {
				refuse(f.field, f.is, f.wants, f.why)
			}
		}
		named := was.LoadBalancer.Type == config.LoadBalancerExternal || was.LoadBalancer.Type == config.LoadBalancerKeepalived
		if named && was.LoadBalancer.Type == spec.LoadBalancer.Type && was.ControlPlaneEndpoint != c.Config.Endpoint() {
			refuse("spec.controlPlaneEndpoint", was.ControlPlaneEndpoint, c.Config.Endpoint(), "all kubeconfigs name it")
		}
	}
	return errors.Join(errs...)
}

// whatIsTold is what the cluster has been told of its document; nil when it does not say.
func whatIsTold(ctx context.Context, c *cluster.Cluster) (*config.Cluster, error) {
	client, err := c.Kube(ctx)
	if errors.Is(err, cluster.ErrNoCluster) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	names := []string{manifests.KubeadmConfigName, manifests.MyadmConfigName}
	said, errs := make([]map[string]string, len(names)), make([]error, len(names))
	var both sync.WaitGroup
	for i, name := range names {
		both.Go(func() {
			var m *corev1.ConfigMap
			m, errs[i] = kube.Get[corev1.ConfigMap](asking, client, kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: name})
			if errs[i] == nil {
				said[i] = m.Data
			}
		})
	}
	both.Wait()
	kubeadm, ours := said[0], said[1]
	if errs[0] != nil {
		return nil, ctx.Err() // what is gone is written anew
	}
	was := &config.Cluster{}
	if config.FromKubeadm([]byte(kubeadm[manifests.KubeadmConfigKey]), was) != nil {
		return nil, nil // likewise what nobody can read
	}
	if errs[1] != nil {
		return was, ctx.Err()
	}
	settings, err := manifests.ReadMyadmConfig(ours)
	if err != nil {
		return was, nil
	}
	was.Spec.Networking.Plugin, was.Spec.LoadBalancer = settings.NetworkPlugin, settings.LoadBalancer
	return was, nil
}

// podFlags are the flags of a control plane's static pods, by component: as they are, and as the document wants them.
type podFlags struct{ have, want map[string]map[string]string }

func readPodFlags(ctx context.Context, c *cluster.Cluster, n *cluster.Node) (podFlags, error) {
	components := []string{manifests.APIServerName, manifests.ControllerManagerName, manifests.EtcdName}
	var wanted []host.File
	var found certs.Files
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		wanted, err = phases.StaticPodFiles(ctx, c, n)
		return err
	})
	g.Go(func() (err error) {
		var pods []string
		for _, name := range components {
			pods = append(pods, manifests.StaticPodPath(name))
		}
		found, err = phases.ReadFiles(ctx, n, pods)
		return err
	})
	if err := g.Wait(); err != nil {
		return podFlags{}, err
	}
	p := podFlags{have: map[string]map[string]string{}, want: map[string]map[string]string{}}
	for _, f := range wanted {
		p.want[strings.TrimSuffix(path.Base(f.Path), ".yaml")] = flagsOf(f.Data)
	}
	for _, name := range components {
		p.have[name] = flagsOf(found[manifests.StaticPodPath(name)])
	}
	return p, nil
}

// etcdAddress is where the other members find the etcd with these flags; empty when there is none, or nobody can tell.
func etcdAddress(pods map[string]map[string]string) string {
	u, err := url.Parse(pods[manifests.EtcdName]["initial-advertise-peer-urls"])
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// flagsOf are the flags of a static pod's component; none of what is no pod.
func flagsOf(manifest []byte) map[string]string {
	var pod corev1.Pod
	if yaml.Unmarshal(manifest, &pod) != nil || len(pod.Spec.Containers) == 0 {
		return nil
	}
	flags := map[string]string{}
	for _, word := range append(pod.Spec.Containers[0].Command, pod.Spec.Containers[0].Args...) {
		if name, value, ok := strings.Cut(strings.TrimPrefix(word, "--"), "="); ok {
			flags[name] = value
		}
	}
	return flags
}
