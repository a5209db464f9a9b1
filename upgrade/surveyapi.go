package upgrade

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/status"
)

// Addon is a part of Kubernetes that runs as pods of the cluster.
type Addon struct {
	Name  string // coredns, kube-proxy
	Image string // as its Deployment or DaemonSet has it

	workload workload // without the image that it is to have
}

// at is the addon's workload at a version.
func (a Addon) at(to Target) workload {
	w := a.workload
	w.image = to.Images.CoreDNS
	if a.Name == manifests.KubeProxyName {
		w.image = to.Images.Proxy
	}
	return w
}

// Budget is a PodDisruptionBudget that lets no pod go.
type Budget struct {
	Namespace, Name string
	Nodes           []string // that its pods are on, by name
}

// RequestedAPI is a deprecated API that an API server was asked for since it started.
type RequestedAPI struct {
	Group, Version, Resource string // the group is empty for the core API
	Removed                  string // the minor version that has it no more, as 1.38
	Hosts                    []string
}

// String is the API as apiVersion and resource: policy/v1beta1 poddisruptionbudgets.
func (r RequestedAPI) String() string {
	if r.Group == "" {
		return r.Version + " " + r.Resource
	}
	return r.Group + "/" + r.Version + " " + r.Resource
}

// surveyedAddons are the parts that an upgrade gives a new image, with the kind of the object that runs each.
var surveyedAddons = []struct{ name, kind string }{{coreDNS, "Deployment"}, {manifests.KubeProxyName, "DaemonSet"}}

// surveyedSettings are what the cluster keeps of its configuration and an upgrade writes, as ConfigMaps of kube-system and their keys.
var surveyedSettings = []struct{ name, key string }{
	{manifests.KubeadmConfigName, manifests.KubeadmConfigKey},
	{coreDNS, corefileField},
}

// configKey is the place in State.Config of a ConfigMap's key.
func configKey(name, key string) string { return name + "/" + key }

// apiAnswers gathers what several questions at the same time give.
type apiAnswers struct {
	mu    sync.Mutex
	state *State
}

func (a *apiAnswers) add(err error, what func(s *State)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.state.Unknown = append(a.state.Unknown, err)
		return
	}
	what(a.state)
}

// sort gives lists that were filled in the order of the answers one of their own.
func (a *apiAnswers) sort() {
	s := a.state
	slices.SortFunc(s.Addons, func(x, y Addon) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortFunc(s.Budgets, func(x, y Budget) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	slices.SortFunc(s.Unknown, func(x, y error) int { return cmp.Compare(x.Error(), y.Error()) })
	s.Requested = mergeRequested(s.Requested)
}

// mergeRequested makes one of what several API servers were asked for.
func mergeRequested(all []RequestedAPI) []RequestedAPI {
	slices.SortFunc(all, func(x, y RequestedAPI) int {
		return cmp.Or(cmp.Compare(x.Group, y.Group), cmp.Compare(x.Resource, y.Resource), cmp.Compare(x.Version, y.Version),
			cmp.Compare(x.Removed, y.Removed), slices.Compare(x.Hosts, y.Hosts))
	})
	var merged []RequestedAPI
	for _, r := range all {
		if n := len(merged); n > 0 && merged[n-1].String() == r.String() && merged[n-1].Removed == r.Removed {
			for _, h := range r.Hosts {
				if !slices.Contains(merged[n-1].Hosts, h) {
					merged[n-1].Hosts = append(merged[n-1].Hosts, h)
				}
			}
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// ask asks the API for addons, settings and budgets.
func (a *apiAnswers) ask(ctx context.Context, c *cluster.Cluster) {
	ctx, cancel := context.WithTimeoutCause(ctx, surveyTimeout, errors.New("the API did not answer in time"))
	defer cancel()
	client, err := c.Kube(ctx)
	if err != nil {
		a.add(err, nil)
		return
	}
	var wg sync.WaitGroup
	homes := append([]string{c.Config.Spec.ImageRepository}, formerRepositories...)
	for _, addon := range surveyedAddons {
		wg.Go(func() {
			w := workload{ref: systemRef(addon.kind, addon.name), container: addon.name, homes: homes}
			var err error
			if w.found, err = client.Get(ctx, w.ref); kube.NotFound(err) {
				return
			}
			a.add(err, func(s *State) { s.Addons = append(s.Addons, Addon{addon.name, w.has(), w}) })
		})
	}
	for _, setting := range surveyedSettings {
		wg.Go(func() {
			data, err := configMapKey(ctx, client, setting.name, setting.key)
			a.add(err, func(s *State) {
				if s.Config == nil {
					s.Config = map[string]string{}
				}
				s.Config[configKey(setting.name, setting.key)] = data
			})
		})
	}
	wg.Go(func() {
		rights, err := rightsEdits(ctx, client)
		a.add(err, func(s *State) { s.Rights = changesOf(rights) })
	})
	wg.Go(func() {
		budgets, err := blocking(ctx, client)
		a.add(err, func(s *State) { s.Budgets = budgets })
	})
	wg.Wait()
}

func systemRef(kind, name string) kube.Ref {
	return kube.Ref{APIVersion: "apps/v1", Kind: kind, Namespace: metav1.NamespaceSystem, Name: name}
}

// configMapKey is empty where there is no such ConfigMap or key.
func configMapKey(ctx context.Context, r kube.Reader, name, key string) (string, error) {
	m, err := kube.Get[corev1.ConfigMap](ctx, r, kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: metav1.NamespaceSystem, Name: name})
	if kube.NotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return m.Data[key], nil
}

// blocking are the budgets that would keep a node from being drained now.
func blocking(ctx context.Context, r kube.Reader) ([]Budget, error) {
	all, err := kube.List[policyv1.PodDisruptionBudget](ctx, r, kube.Selector{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"})
	if err != nil {
		return nil, err
	}
	var list []Budget
	for _, b := range all {
		if b.Status.DisruptionsAllowed > 0 || b.Status.ExpectedPods == 0 {
			continue
		}
		pods, err := kube.List[corev1.Pod](ctx, r, kube.Selector{
			APIVersion: "v1", Kind: "Pod", Namespace: b.Namespace, Labels: metav1.FormatLabelSelector(b.Spec.Selector),
		})
		if err != nil {
			return nil, err
		}
		var nodes []string
		for _, p := range pods {
			if p.Spec.NodeName != "" {
				nodes = append(nodes, p.Spec.NodeName)
			}
		}
		slices.Sort(nodes)
		list = append(list, Budget{b.Namespace, b.Name, slices.Compact(nodes)})
	}
	return list, nil
}

// requested asks a control plane's own API server which deprecated APIs it was asked for: each of them only knows of its
// own clients.
func (a *apiAnswers) requested(ctx context.Context, c *cluster.Cluster, n *cluster.Node) {
	ctx, cancel := context.WithTimeoutCause(ctx, surveyTimeout, errors.New("it did not answer in time"))
	defer cancel()
	list, err := requestedOf(ctx, c, n)
	if err != nil {
		err = fmt.Errorf("metrics of the API server on %s: %w", n.Spec.Name, err)
	}
	a.add(err, func(s *State) { s.Requested = append(s.Requested, list...) })
}

func requestedOf(ctx context.Context, c *cluster.Cluster, n *cluster.Node) ([]RequestedAPI, error) {
	client, err := status.APIServer(ctx, c, n)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	metrics, err := client.Typed.CoreV1().RESTClient().Get().AbsPath("/metrics").Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer metrics.Close()
	list, err := readRequested(metrics)
	for i := range list {
		list[i].Hosts = []string{n.Spec.Name}
	}
	return list, err
}

// requestedMetric is a gauge that is 1 for each deprecated API that was asked for. It is of the API server's stable metrics.
const requestedMetric = "apiserver_requested_deprecated_apis{"

// maxMetric bounds a line of metrics. Lines of other metrics, which are passed over, have some hundred bytes.
const maxMetric = 1 << 20

// readRequested picks the deprecated APIs from an API server's metrics in Prometheus' text format. Those without a release
// that removes them, and lines that are malformed, are passed over.
func readRequested(metrics io.Reader) ([]RequestedAPI, error) {
	var list []RequestedAPI
	lines := bufio.NewScanner(metrics)
	lines.Buffer(nil, maxMetric)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), requestedMetric)
		if !ok {
			continue
		}
		labels, value, ok := metricLabels(rest)
		if n, err := strconv.ParseFloat(strings.TrimSpace(value), 64); !ok || err != nil || n == 0 {
			continue
		}
		r := RequestedAPI{Group: labels["group"], Version: labels["version"], Resource: labels["resource"], Removed: labels["removed_release"]}
		if r.Removed != "" && r.Version != "" && r.Resource != "" {
			list = append(list, r)
		}
	}
	return mergeRequested(list), lines.Err()
}

// metricLabels reads NAME="VALUE",...} and what follows.
func metricLabels(s string) (labels map[string]string, rest string, ok bool) {
	labels = map[string]string{}
	for !strings.HasPrefix(s, "}") {
		name, after, found := strings.Cut(s, "=")
		if !found {
			return nil, "", false
		}
		quoted, err := strconv.QuotedPrefix(after)
		if err != nil || quoted[0] != '"' {
			return nil, "", false
		}
		if labels[strings.TrimSpace(name)], err = strconv.Unquote(quoted); err != nil {
			return nil, "", false
		}
		s = strings.TrimPrefix(after[len(quoted):], ",")
	}
	return labels, s[1:], true
}
