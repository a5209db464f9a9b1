//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/e2e/lab"
)

// TestUpgrade takes a cluster of three control planes and two workers to the next minor version by one command, while its
// users go on: clients of the API inside and outside, and clients of a Service.
func TestUpgrade(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 5, ControlPlanes: 3, KubernetesVersion: older})
	servers, workers := []string{"h1", "h2", "h3"}, []string{"h4", "h5"}
	nodes := slices.Concat(servers, workers)
	s.document = s.write(t, servers, workers, nil)
	s.apply(t)
	s.through(t, "h5") // the client outside goes by the endpoint, too
	changed := s.changeByHand(t)
	s.kubectl(t, "cordon", "h3")
	s.waitAvailable(t)

	l, shop := s.startPatientLoads(t, "h5"), s.openShop(t, workers...)
	r := s.upgrade(t, "-v", "-o", "json").want(t, 0)
	if done := decode[upgraded](t, r); done.From != older || done.To != newest || done.Changes == 0 {
		t.Errorf("it tells %+v", done)
	}
	l.awaitCalm(t)
	l.report(t, "the upgrade")
	for _, whole := range l.stop(t) {
		if whole.Failures > 0 {
			t.Errorf("%d of %d requests of the %s failed: %v", whole.Failures, whole.Requests, whole.Load, whole.Reasons)
		}
		if whole.LongestWatchGap > longestGap.Seconds() {
			t.Errorf("the %s heard nothing for %.1f s; want at most %s", whole.Load, whole.LongestWatchGap, longestGap)
		}
	}
	shop.close(t)

	t.Run("everything is of the new version", func(t *testing.T) { s.wantVersion(t, newest, nodes...) })
	t.Run("what users changed is kept", func(t *testing.T) { changed.wantKept(t) })
	t.Run("it leaves the snapshot and nothing else", func(t *testing.T) { s.wantTidy(t, nodes...) })
	t.Run("only what was cordoned before is cordoned", func(t *testing.T) { s.wantCordoned(t, "h3") })
	t.Run("there is nothing left to do", s.testUpgradeAgain)
	t.Run("pods find each other, and the API", func(t *testing.T) { s.wantWorkload(t, "h4", "h5") })
}

// upgraded is what upgrade apply and upgrade node print with -o json.
type upgraded struct {
	From    string  `json:"from"`
	To      string  `json:"to"`
	Changes int     `json:"changes"`
	Seconds float64 `json:"seconds"`
}

// upgrade runs upgrade apply to the newest version.
func (s *site) upgrade(t *testing.T, args ...string) result {
	t.Helper()
	return s.myadm(t, nil, s.upgradeArgs("apply", append([]string{newest}, args...)...)...)
}

// upgradeArgs are those of a subcommand of upgrade, with the newest version's bundle.
func (s *site) upgradeArgs(command string, args ...string) []string {
	return append([]string{"upgrade", command, "-f", s.document, "--bundle", made.bundle}, args...)
}

// byHand is what an administrator has changed of a cluster, which an upgrade keeps.
type byHand struct {
	s        *site
	manifest string // of the scheduler on h2
}

const schedulerManifest = "/etc/kubernetes/manifests/kube-scheduler.yaml"

// changeByHand changes a static pod, CoreDNS and kube-proxy as administrators do.
func (s *site) changeByHand(t *testing.T) byHand {
	t.Helper()
	// A comment is no change to the kubelet, so that nothing starts anew.
	s.shell(t, "h2", "sed -i '1i # Ask the storage team before you touch this.' "+schedulerManifest)
	s.kubectl(t, "-n", "kube-system", "scale", "deployment/coredns", "--replicas=3")
	corefile := s.corefile(t)
	corefile = strings.Replace(corefile, "errors\n", "errors\n    log example.org\n", 1)
	patch := fmt.Sprintf(`{"data":{"Corefile":%q}}`, corefile)
	s.kubectl(t, "-n", "kube-system", "patch", "configmap/coredns", "--type=merge", "-p", patch)
	s.kubectl(t, "-n", "kube-system", "set", "env", "daemonset/kube-proxy", "E2E=kept")
	return byHand{s, s.output(t, "h2", "cat", schedulerManifest)}
}

func (s *site) corefile(t *testing.T) string {
	t.Helper()
	return s.kubectl(t, "-n", "kube-system", "get", "configmap/coredns", "-o", "jsonpath={.data.Corefile}")
}

func (c byHand) wantKept(t *testing.T) {
	s := c.s
	want := strings.Replace(c.manifest, ":"+older, ":"+newest, 1)
	if got := s.output(t, "h2", "cat", schedulerManifest); got != want {
		t.Errorf("the scheduler's manifest is\n%s\nwant all of it but the image as it was:\n%s", got, c.manifest)
	}
	client := s.api(t)
	dns, err := client.AppsV1().Deployments("kube-system").Get(t.Context(), "coredns", metav1.GetOptions{})
	must(t, err)
	if *dns.Spec.Replicas != 3 {
		t.Errorf("CoreDNS has %d replicas", *dns.Spec.Replicas)
	}
	if corefile := s.corefile(t); !strings.Contains(corefile, "log example.org") {
		t.Errorf("the Corefile is %s", corefile)
	}
	proxy, err := client.AppsV1().DaemonSets("kube-system").Get(t.Context(), "kube-proxy", metav1.GetOptions{})
	must(t, err)
	if !slices.Contains(proxy.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "E2E", Value: "kept"}) {
		t.Errorf("kube-proxy's environment is %v", proxy.Spec.Template.Spec.Containers[0].Env)
	}
}

// components are the images of a cluster of one version, by the pods' label k8s-app or component.
var components = map[string]map[string]string{
	newest: {"etcd": "3.7.0-0", "kube-dns": "v1.14.6"},
	older:  {"etcd": "3.6.8-0", "kube-dns": "v1.14.2"},
}

// wantVersion fails the test unless the nodes, all that kubeadm deploys on them, and the cluster's own word are of one
// version.
func (s *site) wantVersion(t *testing.T, version string, nodes ...string) {
	t.Helper()
	s.wantReady(t, nodes...)
	s.waitAvailable(t)
	client := s.api(t)
	list, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	must(t, err)
	for _, n := range list.Items {
		if n.Status.NodeInfo.KubeletVersion != version {
			t.Errorf("the kubelet of %s is %s", n.Name, n.Status.NodeInfo.KubeletVersion)
		}
	}
	pods, err := client.CoreV1().Pods("kube-system").List(t.Context(), metav1.ListOptions{})
	must(t, err)
	seen := 0
	for _, p := range pods.Items {
		name := p.Labels["component"] + p.Labels["k8s-app"]
		want, special := components[version][name]
		switch {
		case special:
		case strings.HasPrefix(name, "kube-") && p.Labels["app"] == "":
			want = version
		default:
			continue // a load balancer
		}
		seen++
		if image := p.Spec.Containers[0].Image; !strings.HasSuffix(image, ":"+want) {
			t.Errorf("pod %s has the image %s, want %s", p.Name, image, want)
		}
	}
	if seen < 8 {
		t.Errorf("there are only %d pods of Kubernetes in %d", seen, len(pods.Items))
	}
	told := s.kubectl(t, "-n", "kube-system", "get", "configmap/kubeadm-config", "-o", "jsonpath={.data.ClusterConfiguration}")
	if !strings.Contains("\n"+told, "\nkubernetesVersion: "+version+"\n") {
		t.Errorf("kubeadm-config says %s", told)
	}
}

// snapshotFolder is where the state before the upgrade is kept on the first control plane.
const snapshotFolder = "/var/backups/myadm"

// wantTidy fails the test if the upgrade has left anything on the hosts but its snapshot.
func (s *site) wantTidy(t *testing.T, hosts ...string) {
	t.Helper()
	for _, h := range hosts {
		if left := s.halfWritten(t, h); left != "" {
			t.Errorf("%s still has %s", h, left)
		}
	}
	kept := s.shell(t, hosts[0], "stat -c '%a %U' "+snapshotFolder+"; find "+snapshotFolder+" -type f -size +100k -printf '%m %u %f\n'")
	if want := "700 root\n600 root etcd-before-" + newest + ".db\n"; kept != want {
		t.Errorf("of snapshots there is %q, want %q", kept, want)
	}
}

// wantCordoned fails the test unless exactly these nodes are cordoned, and none by myadm.
func (s *site) wantCordoned(t *testing.T, want ...string) {
	t.Helper()
	nodes, err := s.api(t).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	must(t, err)
	var got []string
	for _, n := range nodes.Items {
		if n.Spec.Unschedulable {
			got = append(got, n.Name)
		}
		if mark, ok := n.Annotations["myadm.dev/cordoned"]; ok {
			t.Errorf("%s is marked as cordoned by %s", n.Name, mark)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("cordoned is %v, want %v", got, want)
	}
}

// testUpgradeAgain asks for the plan of a finished upgrade, and makes it.
func (s *site) testUpgradeAgain(t *testing.T) {
	plan := s.myadm(t, nil, s.upgradeArgs("plan", newest, "--exit-code")...).want(t, 0)
	if !strings.Contains(plan.stdout, "0 changes") {
		t.Errorf("the plan is not empty: %s", plan)
	}
	lives := s.lives(t)
	r := s.upgrade(t, "-v", "-o", "json").want(t, 0)
	if done := decode[upgraded](t, r); done.Changes != 0 || done.To != newest {
		t.Errorf("there was something to do: %s", r)
	}
	if r.took > again {
		t.Errorf("it took %s, want at most %s", r.took, again)
	}
	if diff := lives.difference(s.lives(t)); diff != "" {
		t.Errorf("containers (-before +after):\n%s", diff)
	}
}

// wantWords fails the test unless a command's stderr has all of these words.
func (r result) wantWords(t *testing.T, words ...string) {
	t.Helper()
	var missing []error
	for _, word := range words {
		if !strings.Contains(r.stderr, word) {
			missing = append(missing, fmt.Errorf("it does not say %q", word))
		}
	}
	if err := errors.Join(missing...); err != nil {
		t.Errorf("%v: %s", err, r)
	}
}

// awaitUpgradable waits until nothing but the version stands between a cluster and its upgrade, as after a host came back.
func (s *site) awaitUpgradable(t *testing.T) {
	t.Helper()
	eventually(t, 2*time.Minute, "a cluster that is well", func(context.Context) error { return s.status(t, -1).wrong() })
}
