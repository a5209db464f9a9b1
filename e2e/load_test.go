//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/myadm/myadm/e2e/components/e2e-image/load"
)

const (
	// longestGap is for how long nothing may be written when a control plane goes down. The aim is a few seconds; a busy
	// machine is given more.
	longestGap = 10 * time.Second
	// calm is for how long a load has to be served without a gap before a failure counts as over.
	calm = 4 * time.Second
	// shortGap is one that a cluster without failures has on a machine that carries all its hosts.
	shortGap = 2 * time.Second
)

// loads are the two steady loads of a site: of a pod, which knows the Service of the API alone, and of the operator, who
// knows the control planes' addresses.
type loads struct {
	operator *load.Load
	pod      *http.Client // reaches the pod's program
	podURL   string
	podGap   time.Duration           // for how long the pod may be unable to write
	seen     map[string]*load.Result // of both, since the last report
}

// startLoads starts both loads, the pod's on a worker, and returns once they are served. The pod is a DaemonSet's, since
// who drains a node leaves those where they are.
func (s *site) startLoads(t *testing.T, worker string) *loads {
	t.Helper()
	return s.startLoadsOf(t, worker, 2*time.Second) // by then the client has to do without a server that has no power
}

// startPatientLoads starts both loads, whose requests are never given up as long as the cluster may take for one: where no
// server goes without a word, a request that fails is one that somebody refused.
func (s *site) startPatientLoads(t *testing.T, worker string) *loads {
	t.Helper()
	return s.startLoadsOf(t, worker, longestGap)
}

// startLoadsOf starts loads whose requests have so much time each.
func (s *site) startLoadsOf(t *testing.T, worker string, timeout time.Duration) *loads {
	t.Helper()
	s.importTestImage(t, worker)
	client := s.api(t)
	const name = "load"
	_, err := client.CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	must(t, err)
	_, err = client.RbacV1().Roles("default").Create(t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"create", "get", "list", "update", "watch"}}},
	}, metav1.CreateOptions{})
	must(t, err)
	_, err = client.RbacV1().RoleBindings("default").Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: "default"}},
	}, metav1.CreateOptions{})
	must(t, err)
	spec := testPod(worker, "load", "pod", ":8080", timeout.String())
	spec.ServiceAccountName = name
	s.startDaemonSet(t, name, spec)

	config := s.restConfig(t)
	config.QPS, config.Timeout = -1, 0 // a timeout would end watches, too; the load has its own
	operator, err := kubernetes.NewForConfig(config)
	must(t, err)
	l := &loads{
		operator: load.Start(t.Context(), load.Options{Client: operator.CoreV1().ConfigMaps("default"), Name: "operator", Timeout: timeout}),
		pod:      &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: s.dialFrom(t, worker), DisableKeepAlives: true}},
	}
	eventually(t, time.Minute, "the load's pod", func(ctx context.Context) error {
		address, err := s.podAddress(ctx, t, name, worker)
		if err != nil {
			return err
		}
		l.podURL = "http://" + net.JoinHostPort(address, "8080")
		_, err = l.ask(ctx, "/lap")
		return err
	})
	l.seen, l.podGap = map[string]*load.Result{}, longestGap
	l.awaitCalm(t)
	l.report(t, "while nothing happens")
	return l
}

// startDaemonSet runs pods of which drains leave each on its node.
func (s *site) startDaemonSet(t *testing.T, name string, spec corev1.PodSpec) {
	t.Helper()
	labels := map[string]string{"app": name}
	_, err := s.api(t).AppsV1().DaemonSets("default").Create(t.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	must(t, err)
}

// podAddress is the address of the pod of an app on a node.
func (s *site) podAddress(ctx context.Context, t *testing.T, app, node string) (string, error) {
	t.Helper()
	pods, err := s.api(t).CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		return "", err
	}
	for _, p := range pods.Items {
		if p.Spec.NodeName == node && p.Status.PodIP != "" {
			return p.Status.PodIP, nil
		}
	}
	return "", fmt.Errorf("no pod of %s on %s has an address", app, node)
}

// ask asks the pod, on a connection that needs nothing of Kubernetes but the network between pods.
func (l *loads) ask(ctx context.Context, path string) (load.Result, error) {
	var result load.Result
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.podURL+path, nil)
	if err != nil {
		return result, err
	}
	response, err := l.pod.Do(request)
	if err != nil {
		return result, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return result, fmt.Errorf("%s: %s", path, response.Status)
	}
	return result, json.NewDecoder(response.Body).Decode(&result)
}

// laps takes what both loads have seen since it was last called, and keeps it for the report.
func (l *loads) laps(t *testing.T) []load.Result {
	t.Helper()
	pod, err := l.ask(t.Context(), "/lap")
	must(t, err)
	both := []load.Result{pod, l.operator.Lap()}
	for _, lap := range both {
		if seen := l.seen[lap.Load]; seen != nil {
			seen.Merge(lap)
		} else {
			l.seen[lap.Load] = &lap
		}
	}
	return both
}

// awaitCalm waits until both loads have been served for a while as if nothing had happened.
func (l *loads) awaitCalm(t *testing.T) {
	t.Helper()
	l.laps(t)
	since := time.Now()
	eventually(t, 2*time.Minute, "calm", func(context.Context) error {
		for _, lap := range l.laps(t) {
			if lap.LongestWriteGap > shortGap.Seconds() || lap.LongestWatchGap > shortGap.Seconds() {
				since = time.Now()
				return fmt.Errorf("%s: %.1f s without a write, %.1f s without an event", lap.Load, lap.LongestWriteGap, lap.LongestWatchGap)
			}
		}
		if time.Since(since) < calm {
			return fmt.Errorf("it is calm since %s", time.Since(since))
		}
		return nil
	})
}

// report prints what both loads have seen since the last report, and fails the test if that is more than the failure of
// one control plane may cost.
func (l *loads) report(t *testing.T, what string) {
	t.Helper()
	l.laps(t)
	for _, name := range []string{"pod", "operator"} {
		l.wantServed(t, what, *l.seen[name])
	}
	clear(l.seen)
}

func (l *loads) wantServed(t *testing.T, what string, r load.Result) {
	t.Helper()
	limit := longestGap
	if r.Load == "pod" {
		limit = l.podGap
	}
	text, err := json.Marshal(r)
	must(t, err)
	t.Logf("%s: %s", what, text)
	if r.Acknowledged == 0 || r.Reads == 0 || r.Events == 0 {
		t.Errorf("%s: the %s wrote %d times, read %d times, and heard of %d", what, r.Load, r.Acknowledged, r.Reads, r.Events)
	}
	if len(r.Lost) > 0 {
		t.Errorf("%s: acknowledged writes of the %s got lost: %q", what, r.Load, r.Lost)
	}
	if len(r.Missed) > 0 {
		t.Errorf("%s: the watch of the %s passed over writes: %q", what, r.Load, r.Missed)
	}
	if r.LongestWriteGap > limit.Seconds() {
		t.Errorf("%s: the %s could not write for %.1f s; want at most %s", what, r.Load, r.LongestWriteGap, limit)
	}
}

// stop ends both loads, which then compare what there is with all that was acknowledged, and returns what each has seen.
func (l *loads) stop(t *testing.T) []load.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pod, err := l.ask(ctx, "/stop")
	must(t, err)
	operator, err := l.operator.Stop(ctx)
	must(t, err)
	both := []load.Result{pod, operator}
	for _, whole := range both {
		l.wantServed(t, "in all", whole)
	}
	return both
}
