//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/cache"

	"github.com/myadm/myadm/e2e/components/e2e-image/ask"
)

// The shop has one replica more than it needs.
const (
	shopReplicas = 3
	shopBudget   = 2
)

// shop is what users run who want no outage: a Deployment with a budget, whose pods say when they are ready and go on
// for a while when they are to end, and a Service, which clients on every worker ask without a pause.
type shop struct {
	s       *site
	clients map[string]*http.Client // by worker, each reaches its client pod
	budget  *budgetWatch
}

// openShop starts the shop on the workers, and returns once it is served.
func (s *site) openShop(t *testing.T, workers ...string) *shop {
	t.Helper()
	for _, w := range workers {
		s.importTestImage(t, w)
	}
	client, labels := s.api(t), map[string]string{"app": "shop"}
	spec := testPod("", "serve")
	spec.NodeSelector, spec.TerminationGracePeriodSeconds = nil, new(int64(30))
	spec.Containers[0].ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(8080)}},
		PeriodSeconds: 1,
	}
	// Until every node knows that the pod is ending, it is still asked.
	spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 5}}}
	_, err := client.AppsV1().Deployments("default").Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "shop"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(shopReplicas)),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	needed := intstr.FromInt32(shopBudget)
	_, err = client.PolicyV1().PodDisruptionBudgets("default").Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "shop"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &needed, Selector: &metav1.LabelSelector{MatchLabels: labels}},
	}, metav1.CreateOptions{})
	must(t, err)
	_, err = client.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "shop"},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}, metav1.CreateOptions{})
	must(t, err)
	s.waitPods(t)

	shop := &shop{s: s, clients: map[string]*http.Client{}, budget: s.watchBudget(t, "app=shop")}
	service, err := client.CoreV1().Services("default").Get(t.Context(), "shop", metav1.GetOptions{})
	must(t, err)
	asking := testPod("", "ask", "http://"+service.Spec.ClusterIP+"/")
	asking.NodeSelector = nil
	s.startDaemonSet(t, "shopper", asking)
	for _, w := range workers {
		shop.clients[w] = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: s.dialFrom(t, w), DisableKeepAlives: true}}
		eventually(t, time.Minute, "a shopper on "+w, func(ctx context.Context) error {
			seen, err := shop.seen(ctx, t, w)
			if err == nil && seen.Requests < 20 {
				err = fmt.Errorf("it has asked %d times", seen.Requests)
			}
			return err
		})
	}
	return shop
}

// seen is what the client on a worker has seen.
func (shop *shop) seen(ctx context.Context, t *testing.T, worker string) (ask.Result, error) {
	t.Helper()
	var seen ask.Result
	address, err := shop.s.podAddress(ctx, t, "shopper", worker)
	if err != nil {
		return seen, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(address, "8080"), nil)
	if err != nil {
		return seen, err
	}
	response, err := shop.clients[worker].Do(request)
	if err != nil {
		return seen, err
	}
	defer response.Body.Close()
	return seen, json.NewDecoder(response.Body).Decode(&seen)
}

// close fails the test unless every request was answered and the Deployment never fell below its budget.
func (shop *shop) close(t *testing.T) {
	t.Helper()
	for worker := range shop.clients {
		seen, err := shop.seen(t.Context(), t, worker)
		must(t, err)
		text, err := json.Marshal(seen)
		must(t, err)
		t.Logf("the Service, asked from %s: %s", worker, text)
		if seen.Failures > 0 {
			t.Errorf("from %s, %d of %d requests failed: %v", worker, seen.Failures, seen.Requests, seen.Reasons)
		}
		if len(seen.Servers) <= shopReplicas {
			t.Errorf("from %s, only %d pods have ever answered: the nodes were not drained", worker, len(seen.Servers))
		}
	}
	lowest, pods := shop.budget.stop()
	t.Logf("of %d replicas %d were always available; there were %d pods in all", shopReplicas, lowest, pods)
	if lowest < shopBudget {
		t.Errorf("only %d pods were available for a while, and the budget is %d", lowest, shopBudget)
	}
}

// budgetWatch counts available pods by what the API tells of them, as the controller of budgets does: those that are Ready
// and not about to end.
type budgetWatch struct {
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu     sync.Mutex
	ready  map[string]bool // by UID
	lowest int             // -1 before the first look
}

// watchBudget watches pods that are all there.
func (s *site) watchBudget(t *testing.T, selector string) *budgetWatch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &budgetWatch{cancel: cancel, ready: map[string]bool{}, lowest: -1}
	pods := cache.NewFilteredListWatchFromClient(s.api(t).CoreV1().RESTClient(), "pods", "default", func(o *metav1.ListOptions) {
		o.LabelSelector, o.FieldSelector = selector, fields.Everything().String()
	})
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: pods, ObjectType: &corev1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(pod any) { w.note(pod.(*corev1.Pod)) },
			UpdateFunc: func(_, pod any) { w.note(pod.(*corev1.Pod)) },
			DeleteFunc: func(pod any) {
				if gone, ok := pod.(*corev1.Pod); ok {
					gone = gone.DeepCopy()
					gone.DeletionTimestamp = new(metav1.Now())
					w.note(gone)
				}
			},
		},
	})
	w.ended.Go(func() { informer.RunWithContext(ctx) })
	eventually(t, time.Minute, "all pods of "+selector, func(context.Context) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := w.available(); n < shopReplicas {
			return fmt.Errorf("%d are available", n)
		}
		w.lowest = w.available()
		return nil
	})
	return w
}

func (w *budgetWatch) note(pod *corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ready := false
	for _, c := range pod.Status.Conditions {
		ready = ready || c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	}
	w.ready[string(pod.UID)] = ready && pod.DeletionTimestamp == nil
	if w.lowest >= 0 {
		w.lowest = min(w.lowest, w.available())
	}
}

func (w *budgetWatch) available() (n int) {
	for _, ready := range w.ready {
		if ready {
			n++
		}
	}
	return n
}

// stop ends the watch and returns how many pods were available when it was fewest, and how many there were over time.
func (w *budgetWatch) stop() (lowest, pods int) {
	w.cancel()
	w.ended.Wait()
	return w.lowest, len(w.ready)
}
