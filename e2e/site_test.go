//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/myadm/myadm/e2e/lab"
)

// site is a lab and the desk of the operator who makes a cluster of it.
type site struct {
	*lab.Lab
	home       string    // of the operator
	document   string    // the lab's Cluster document
	bundle     string    // that init, join and apply bring
	kubeconfig string    // where init and apply put the administrator's
	servers    *failover // that dial goes by, if it is follow's

	// dial makes the connections of API clients; nil: to the server in the kubeconfig.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// newSite starts hosts for a test, and removes them at its end. Of a failed test it shows what the hosts logged.
func newSite(t *testing.T, o lab.Options) *site {
	t.Helper()
	home := t.TempDir()
	o.Dir, o.Log = filepath.Join(t.TempDir(), "lab"), t.Output()
	t.Cleanup(func() {
		if err := lab.Down(context.Background(), o.Dir, t.Output()); err != nil {
			t.Error(err)
		}
	})
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Lab: l, home: home, document: l.Path(lab.ClusterFile), bundle: made.bundle, kubeconfig: filepath.Join(home, "admin.conf")}
	if o.KubernetesVersion == older {
		s.bundle = made.older
	}
	t.Cleanup(func() { s.dump(t) })
	return s
}

// dump shows the end of the journals of a failed test's hosts, and the cluster's pods.
func (s *site) dump(t *testing.T) {
	if !t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, h := range s.Hosts {
		out, err := s.Output(ctx, h.Name, "journalctl", "-u", "kubelet", "-u", "containerd", "-n", "60", "--no-pager")
		t.Logf("journal of %s (%v):\n%s", h.Name, err, out)
	}
	out, err := exec.CommandContext(ctx, made.kubectl, "--kubeconfig", s.kubeconfig, "--request-timeout=5s", "get", "nodes,pods", "-A", "-o", "wide").CombinedOutput()
	t.Logf("nodes and pods (%v):\n%s", err, out)
}

// takeLink has the operator's ssh_config lead over a link of this rate, until the test ends.
func (s *site) takeLink(t *testing.T, bytesPerSecond int64) *lab.Link {
	t.Helper()
	link, err := s.OpenLink(t.Context(), bytesPerSecond)
	must(t, err)
	t.Cleanup(link.Close)
	config := filepath.Join(s.home, ".ssh", "config")
	must(t, os.MkdirAll(filepath.Dir(config), 0o700))
	must(t, os.WriteFile(config, []byte(link.SSHConfig()), 0o600))
	return link
}

// init runs init of the document, join joins its other hosts; each has to succeed.
func (s *site) init(t *testing.T, args ...string) result {
	t.Helper()
	return s.myadm(t, nil, s.initArgs(args...)...).want(t, 0)
}

func (s *site) initArgs(args ...string) []string {
	return append([]string{"init", "-f", s.document, "--bundle", s.bundle, "--kubeconfig-out", s.kubeconfig}, args...)
}

func (s *site) join(t *testing.T, args ...string) result {
	t.Helper()
	return s.myadm(t, nil, s.joinArgs(args...)...).want(t, 0)
}

func (s *site) joinArgs(args ...string) []string {
	return append([]string{"join", "-f", s.document, "--bundle", s.bundle}, args...)
}

// apply makes the whole cluster of the document.
func (s *site) apply(t *testing.T, args ...string) result {
	t.Helper()
	return s.myadm(t, nil, s.applyArgs(args...)...).want(t, 0)
}

func (s *site) applyArgs(args ...string) []string {
	return append([]string{"apply", "-f", s.document, "--bundle", s.bundle, "--kubeconfig-out", s.kubeconfig}, args...)
}

// output runs a command on a host, at its console, and returns what it printed.
func (s *site) output(t *testing.T, host string, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := s.Output(ctx, host, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// shell runs a script on a host, at its console.
func (s *site) shell(t *testing.T, host, script string) string {
	t.Helper()
	return s.output(t, host, "sh", "-euc", script)
}

// kubectl runs the bundle's kubectl with the administrator's kubeconfig.
func (s *site) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, made.kubectl, append([]string{"--kubeconfig", s.kubeconfig}, args...)...)
	cmd.Env = []string{"HOME=" + s.home, "PATH=" + os.Getenv("PATH")}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

func (s *site) restConfig(t *testing.T) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.Burst, config.Timeout, config.WarningHandler = 200, 400, 30*time.Second, rest.NoWarnings{}
	if s.dial != nil {
		config.Dial, config.ServerName = s.dial, "kubernetes" // a name that every API server has
	}
	return config
}

func (s *site) api(t *testing.T) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(s.restConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// wantReady fails the test unless exactly these nodes exist and are Ready, now.
func (s *site) wantReady(t *testing.T, names ...string) {
	t.Helper()
	nodes, err := s.api(t).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range nodes.Items {
		got = append(got, n.Name)
		if err := ready(n); err != nil {
			t.Error(err)
		}
	}
	if strings.Join(got, " ") != strings.Join(names, " ") { // the API lists by name
		t.Errorf("the nodes are %v, want %v", got, names)
	}
}

func ready(n corev1.Node) error {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("node %s is not Ready", n.Name)
}

// waitPods waits until every pod that is to go on is Ready by the word of its kubelet, which may take it some ten seconds.
func (s *site) waitPods(t *testing.T) {
	t.Helper()
	client := s.api(t)
	eventually(t, 2*time.Minute, "Ready pods", func(ctx context.Context) error {
		pods, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		var errs []error
		for _, p := range pods.Items {
			ready := p.Status.Phase == corev1.PodSucceeded
			for _, c := range p.Status.Conditions {
				ready = ready || c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			}
			if !ready || p.DeletionTimestamp != nil {
				errs = append(errs, fmt.Errorf("pod %s/%s is not Ready", p.Namespace, p.Name))
			}
		}
		return errors.Join(errs...)
	})
}

// waitAvailable waits until every replica of what runs in the cluster's own namespaces is there: CoreDNS, kube-proxy, the
// pod network.
func (s *site) waitAvailable(t *testing.T) {
	t.Helper()
	s.waitPods(t)
	client := s.api(t)
	eventually(t, 2*time.Minute, "the cluster's own pods", func(ctx context.Context) error {
		deployments, err := client.AppsV1().Deployments("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		sets, err := client.AppsV1().DaemonSets("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(deployments.Items) == 0 || len(sets.Items) < 2 {
			return fmt.Errorf("%d Deployments and %d DaemonSets", len(deployments.Items), len(sets.Items))
		}
		var errs []error
		for _, d := range deployments.Items {
			if d.Status.ObservedGeneration < d.Generation || d.Status.AvailableReplicas != *d.Spec.Replicas {
				errs = append(errs, fmt.Errorf("Deployment %s has %d of %d replicas", d.Name, d.Status.AvailableReplicas, *d.Spec.Replicas))
			}
		}
		for _, d := range sets.Items {
			if d.Status.ObservedGeneration < d.Generation || d.Status.NumberAvailable != d.Status.DesiredNumberScheduled || d.Status.NumberAvailable == 0 {
				errs = append(errs, fmt.Errorf("DaemonSet %s has %d of %d pods", d.Name, d.Status.NumberAvailable, d.Status.DesiredNumberScheduled))
			}
		}
		return errors.Join(errs...)
	})
}
