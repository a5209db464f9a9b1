package status

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
)

// hostAnswer is what a host's files and, of a control plane, its components say.
type hostAnswer struct {
	controlPlane bool // it has the API server's static pod
	pods         map[string]corev1.Pod
	components   []Component
	certificates []Certificate
	err          error // of the certificates
}

func (a hostAnswer) report(name string) ControlPlane {
	return ControlPlane{
		Name: name, Components: a.components, Certificates: append([]Certificate{}, a.certificates...), CertificateError: text(a.err),
	}
}

// staticPods are the components of a control plane, in the order in which they come up.
var staticPods = []string{manifests.EtcdName, manifests.APIServerName, manifests.ControllerManagerName, manifests.SchedulerName}

// lookAt reads a host's static pods and, if it is a control plane, its certificates. Keys are left where they are.
func lookAt(ctx context.Context, n *cluster.Node, now time.Time) (a hostAnswer) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errNoAnswer)
	defer cancel()
	var paths []string
	for _, name := range staticPods {
		paths = append(paths, manifests.StaticPodPath(name))
	}
	files, err := phases.ReadFiles(ctx, n, paths)
	if err != nil {
		// The document knows whether it is a control plane, and its components tell how they are by themselves.
		return hostAnswer{controlPlane: n.Spec.HasRole(config.RoleControlPlane), err: cause(ctx, err)}
	}
	a.pods = map[string]corev1.Pod{}
	for _, name := range staticPods {
		var pod corev1.Pod
		if data, ok := files[manifests.StaticPodPath(name)]; ok && yaml.Unmarshal(data, &pod) == nil {
			a.pods[name] = pod
		}
	}
	if _, a.controlPlane = files[manifests.StaticPodPath(manifests.APIServerName)]; !a.controlPlane {
		return a
	}
	isKey := func(path string) bool { return strings.HasSuffix(path, ".key") || strings.HasSuffix(path, ".pub") }
	have, err := phases.ReadFiles(ctx, n, slices.DeleteFunc(certs.Paths(), isKey))
	if err != nil {
		a.err = cause(ctx, err)
		return a
	}
	list, err := certs.Expirations(have, now)
	for _, e := range list {
		a.certificates = append(a.certificates, Certificate{e.Name, e.Path, e.NotAfter})
	}
	a.err = err
	return a
}

// askComponents asks the components of a control plane for their health, over the connection to its host.
func askComponents(ctx context.Context, c *cluster.Cluster, n *cluster.Node, pods map[string]corev1.Pod) []Component {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errNoAnswer)
	defer cancel()
	parts := phases.Components(c)
	list := make([]Component, len(parts))
	var wg sync.WaitGroup
	for i, part := range parts {
		list[i] = Component{Name: part.Name, Version: imageTag(pods[part.Name])}
		wg.Go(func() {
			var err error
			if part.Name == manifests.APIServerName {
				err = askAPIServer(ctx, c, n)
			} else {
				err = kube.Healthy(ctx, part.Probe(c, n))
			}
			err = cause(ctx, err)
			list[i].Healthy, list[i].Reason = err == nil, text(err)
		})
	}
	wg.Wait()
	return list
}

// askAPIServer asks a host's own API server, as the administrator: without credentials it may not say how it is.
func askAPIServer(ctx context.Context, c *cluster.Cluster, n *cluster.Node) error {
	client, err := APIServer(ctx, c, n)
	if err != nil {
		return err
	}
	defer client.Close()
	return cmp.Or(client.Health(ctx, "/livez"), client.Health(ctx, "/readyz"))
}

// APIServer is a control plane's own API server as its administrator, whatever the cluster's endpoint is. It sends nothing
// yet; the caller closes it.
func APIServer(ctx context.Context, c *cluster.Cluster, n *cluster.Node) (*kube.Client, error) {
	parts := phases.Components(c)
	i := slices.IndexFunc(parts, func(p phases.Component) bool { return p.Name == manifests.APIServerName })
	server, err := url.Parse(parts[i].Probe(c, n).URL)
	if err != nil {
		return nil, err
	}
	server.Path = ""
	data, err := cluster.AdminKubeconfig(ctx, n)
	if err != nil {
		return nil, err
	}
	data, _, err = certs.PointAt(data, server.String())
	if err != nil {
		return nil, err
	}
	return kube.Connect(data, n.Dial, kube.Options{Version: c.Version})
}

// ask asks a URL as seen from a host. Who answers is not verified: nothing but an answer is wanted.
func ask(ctx context.Context, n *cluster.Node, at string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errNoAnswer)
	defer cancel()
	return cause(ctx, kube.Healthy(ctx, kube.Probe{URL: at, TLS: &tls.Config{InsecureSkipVerify: true}, Dial: n.Dial}))
}

// refused tells whether somebody answered, who wants to know first who asks.
func refused(err error) bool {
	var answer *kube.HealthError
	return errors.As(err, &answer) && (answer.Status == http.StatusUnauthorized || answer.Status == http.StatusForbidden)
}

// imageTag is the tag of the image of a pod's first container; empty when it has none.
func imageTag(pod corev1.Pod) string {
	if len(pod.Spec.Containers) == 0 {
		return ""
	}
	image, _, _ := strings.Cut(pod.Spec.Containers[0].Image, "@")
	i := strings.LastIndexByte(image, ':')
	if i < 0 || strings.Contains(image[i:], "/") {
		return ""
	}
	return image[i+1:]
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
