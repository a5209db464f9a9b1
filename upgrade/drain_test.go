package upgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/upgrade"
)

// drainServer is an API server with the eviction API, whose pods end at once.
type drainServer struct {
	*kubetest.Server
	lingering bool // pods that are deleted stay, as those do whose kubelet is gone

	mu      sync.Mutex
	refuse  map[string]error // by pod: what an eviction is answered
	onEvict func(pod string)
	evicted []string // that were asked for
}

func newDrainServer(t *testing.T, objs ...runtime.Object) *drainServer {
	s := &drainServer{Server: kubetest.NewServer(t, objs...), refuse: map[string]error{}}
	s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		path, isEviction := strings.CutSuffix(r.URL.Path, "/eviction")
		if !isEviction || r.Method != http.MethodPost {
			return false
		}
		parts := strings.Split(path, "/") // /api/v1/namespaces/NAMESPACE/pods/NAME
		ref := kube.Ref{APIVersion: "v1", Kind: "Pod", Namespace: parts[4], Name: parts[6]}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.evicted = append(s.evicted, ref.Name)
		if s.onEvict != nil {
			s.onEvict(ref.Name)
		}
		pod := s.Object(ref)
		switch err := s.refuse[ref.Name]; {
		case err != nil:
			kubetest.Fail(w, err)
			return true
		case pod == nil:
			kubetest.Fail(w, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, ref.Name))
			return true
		case s.lingering:
			now := metav1.Now()
			pod.SetDeletionTimestamp(&now)
			s.Put(t, pod)
		default:
			s.Remove(ref)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Success"})
		return true
	}
	return s
}

func (s *drainServer) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.evicted)
}

func (s *drainServer) pods(t *testing.T) []string {
	t.Helper()
	pods, err := kube.List[corev1.Pod](t.Context(), s.Client(t, kube.Options{}), kube.Selector{APIVersion: "v1", Kind: "Pod"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, pod := range pods {
		names = append(names, pod.Name)
	}
	return names
}

// drainPod is a pod of a ReplicaSet on w-1, running and Ready, with edits.
func drainPod(name string, edits ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: "w-1"},
		Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
	ownedBy("ReplicaSet", name)(pod)
	for _, edit := range edits {
		edit(pod)
	}
	return pod
}

func ownedBy(kind, name string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		yes := true
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: name, UID: "u", Controller: &yes}}
	}
}

func ownerless(pod *corev1.Pod) { pod.OwnerReferences = nil }

func withEmptyDir(pod *corev1.Pod) {
	pod.Spec.Volumes = []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
}

func mirrorPod(pod *corev1.Pod) {
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "w-1", UID: "n"}}
	pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
}

func onOther(pod *corev1.Pod) { pod.Spec.NodeName = "w-2" }

func notReady(pod *corev1.Pod) { pod.Status.Conditions[0].Status = corev1.ConditionFalse }

func finishedPod(pod *corev1.Pod) { pod.Status.Phase = corev1.PodSucceeded }

// budget is one for the pods of an app, which has just as many as it needs.
func drainBudget(name, app string) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}},
		Status:     policyv1.PodDisruptionBudgetStatus{CurrentHealthy: 2, DesiredHealthy: 2},
	}
}

// violates is what the API server answers for a pod that its budget holds.
func budgetRefusal() error {
	return apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestDrainMovesWhatHasSomewhereToGo(t *testing.T) {
	agents := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agents"}}
	s := newDrainServer(t, agents, drainPod("web"), drainPod("job", ownerless, withEmptyDir, finishedPod), drainPod("etcd-w-1", mirrorPod),
		drainPod("agent", ownedBy("DaemonSet", "agents")), drainPod("other", onOther, ownerless))
	c := s.Client(t, kube.Options{})
	if err := upgrade.Drain(soon(t), c, "w-1", upgrade.DefaultDrainOptions()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"agent", "etcd-w-1", "other"}, s.pods(t)); d != "" {
		t.Errorf("what stays (-want +got):\n%s", d)
	}
	asked := s.asked()
	if err := upgrade.Drain(soon(t), c, "w-1", upgrade.DefaultDrainOptions()); err != nil || len(s.asked()) != len(asked) {
		t.Errorf("once more: %v, evicted %v", err, s.asked()[len(asked):])
	}
}

// Nothing is begun when some pods would not go; each is named with the flag that moves it, and with that flag it goes.
func TestDrainNeedsChoices(t *testing.T) {
	const force, emptyDir = "--drain-force moves pods that have no controller", "--drain-delete-emptydir-data moves pods that have emptyDir volumes"
	tests := []struct {
		name   string
		pod    *corev1.Pod
		extra  []runtime.Object
		want   string
		choose func(*upgrade.DrainOptions)
	}{
		{
			"a pod of nobody's", drainPod("p", ownerless), nil,
			"pod default/p has no controller that would replace it; hint: " + force,
			func(o *upgrade.DrainOptions) { o.Force = true },
		},
		{
			"one of a DaemonSet that is gone", drainPod("p", ownedBy("DaemonSet", "agents")), nil,
			"pod default/p is of DaemonSet agents, which is gone; hint: " + force,
			func(o *upgrade.DrainOptions) { o.Force = true },
		},
		{
			"emptyDir", drainPod("p", withEmptyDir), nil,
			"pod default/p has emptyDir volumes, whose data would be lost; hint: " + emptyDir,
			func(o *upgrade.DrainOptions) { o.DeleteEmptyDirData = true },
		},
		{
			"both", drainPod("p", ownerless, withEmptyDir), nil,
			"pod default/p has no controller that would replace it and has emptyDir volumes, whose data would be lost; hint: " + force + ", " + emptyDir,
			func(o *upgrade.DrainOptions) { o.Force, o.DeleteEmptyDirData = true, true },
		},
		{
			"two budgets", drainPod("p"), []runtime.Object{drainBudget("a", "p"), drainBudget("b", "p")},
			"pod default/p has more than one PodDisruptionBudget (a, b), which eviction does not support; " +
				"hint: --drain-disable-eviction deletes pods whatever their budgets say",
			func(o *upgrade.DrainOptions) { o.DisableEviction = true },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newDrainServer(t, append(tt.extra, tt.pod, drainPod("web"))...)
			c := s.Client(t, kube.Options{})
			opts := upgrade.DefaultDrainOptions()
			blocked, err := upgrade.DrainBlocked(soon(t), c, "w-1", opts)
			if d := cmp.Diff([]string{tt.want}, blocked); d != "" || err != nil {
				t.Errorf("DrainBlocked: %v (-want +got):\n%s", err, d)
			}
			version := s.Version()
			if err := upgrade.Drain(soon(t), c, "w-1", opts); err == nil || err.Error() != "drain node w-1: "+tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if s.Version() != version {
				t.Errorf("it has moved pods all the same: %v are left", s.pods(t))
			}
			tt.choose(&opts)
			if blocked, err := upgrade.DrainBlocked(soon(t), c, "w-1", opts); err != nil || len(blocked) > 0 {
				t.Errorf("with the choice made: %q, %v", blocked, err)
			}
			if err := upgrade.Drain(soon(t), c, "w-1", opts); err != nil || len(s.pods(t)) > 0 {
				t.Errorf("with the choice made: %v; %v are left", err, s.pods(t))
			}
		})
	}
}

// A budget is waited for, and the pod goes once it allows that.
func TestDrainWaitsForABudget(t *testing.T) {
	s := newDrainServer(t, drainPod("web"), drainPod("free"), drainBudget("web", "web"))
	s.refuse["web"] = budgetRefusal()
	tries := 0
	s.onEvict = func(pod string) {
		if pod == "web" {
			if tries++; tries == 2 {
				delete(s.refuse, "web")
			}
		}
	}
	if err := upgrade.Drain(soon(t), s.Client(t, kube.Options{}), "w-1", upgrade.DefaultDrainOptions()); err != nil {
		t.Fatal(err)
	}
	if left := s.pods(t); len(left) > 0 || tries != 2 {
		t.Errorf("after %d tries %v are left", tries, left)
	}
}

func TestDrainTimeout(t *testing.T) {
	held := "pod default/web is held by PodDisruptionBudget web, which allows no disruption (2 healthy pods, 2 needed)"
	tests := []struct {
		name    string
		objs    []runtime.Object
		arrange func(*drainServer)
		want    string
	}{
		{"a budget", []runtime.Object{drainBudget("web", "web")}, func(s *drainServer) { s.refuse["web"] = budgetRefusal() }, held},
		{
			"a webhook's refusal", nil,
			func(s *drainServer) { s.refuse["web"] = apierrors.NewTooManyRequests("not during trading hours", 0) },
			"pod default/web cannot be evicted: not during trading hours",
		},
		{"a pod that does not end", nil, func(s *drainServer) { s.lingering = true }, "pod default/web is still ending"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newDrainServer(t, append(tt.objs, drainPod("web"))...)
			tt.arrange(s)
			opts := upgrade.DefaultDrainOptions()
			opts.Timeout = 400 * time.Millisecond
			err := upgrade.Drain(soon(t), s.Client(t, kube.Options{}), "w-1", opts)
			want := "drain node w-1: time is over (400ms): " + tt.want + "; hint: --drain-timeout gives pods more time"
			if err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

// A pod whose kubelet is gone is passed over after the time that the user gives it.
func TestDrainSkipsPodsThatShouldHaveEnded(t *testing.T) {
	s := newDrainServer(t, drainPod("web"))
	s.lingering = true
	opts := upgrade.DefaultDrainOptions()
	opts.SkipWaitForDeleteTimeout = 1
	if err := upgrade.Drain(soon(t), s.Client(t, kube.Options{}), "w-1", opts); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"web"}, s.asked()); d != "" {
		t.Errorf("evictions (-want +got):\n%s", d)
	}
}

// What the API server refuses for good is not tried until the time is over; what is a moment's trouble is tried again.
func TestDrainWithAPIErrors(t *testing.T) {
	s := newDrainServer(t, drainPod("web"))
	s.refuse["web"] = apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "web", errors.New("frozen"))
	c := s.Client(t, kube.Options{})
	err := upgrade.Drain(soon(t), c, "w-1", upgrade.DefaultDrainOptions())
	const want = `drain node w-1: the API server refuses: pod default/web cannot be evicted: pods "web" is forbidden: frozen`
	if !apierrors.IsForbidden(err) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	s.refuse["web"] = apierrors.NewInternalError(errors.New("etcdserver: leader changed"))
	s.onEvict = func(pod string) { // the second try passes
		if len(s.evicted) == 3 {
			delete(s.refuse, pod)
		}
	}
	if err := upgrade.Drain(soon(t), c, "w-1", upgrade.DefaultDrainOptions()); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestDrainEndsWithItsContext(t *testing.T) {
	tests := map[string]func(*drainServer){
		"while a budget holds a pod": func(s *drainServer) { s.refuse["web"] = budgetRefusal() },
		"while a pod ends":           func(s *drainServer) { s.lingering = true },
	}
	for name, arrange := range tests {
		t.Run(name, func(t *testing.T) {
			s := newDrainServer(t, drainPod("web"))
			arrange(s)
			ctx, cancel := context.WithCancel(soon(t))
			var cancelled time.Time
			s.onEvict = func(string) { cancelled = time.Now(); cancel() }
			err := upgrade.Drain(ctx, s.Client(t, kube.Options{}), "w-1", upgrade.DefaultDrainOptions())
			if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "pod default/web ") {
				t.Errorf("got %v", err)
			}
			if took := time.Since(cancelled); took > 900*time.Millisecond {
				t.Errorf("it ended %v after its context", took)
			}
			if asked := s.asked(); len(asked) != 1 {
				t.Errorf("evictions: %v", asked)
			}
		})
	}
}

// What a budget would hold now is foretold by the rules of the eviction API, and nothing is written for that.
func TestDrainBlockedKnowsBudgets(t *testing.T) {
	allowing, always, short := drainBudget("allowing", "allowing"), drainBudget("always", "always"), drainBudget("short", "short")
	allowing.Status.DisruptionsAllowed = 1
	policy := policyv1.AlwaysAllow
	always.Spec.UnhealthyPodEvictionPolicy, always.Status.CurrentHealthy = &policy, 1
	short.Status.CurrentHealthy = 1
	elsewhere := drainBudget("elsewhere", "lone")
	elsewhere.Namespace = "kube-system"
	s := newDrainServer(t, drainBudget("web", "web"), allowing, always, short, elsewhere, drainBudget("spare", "spare"),
		drainPod("web"), drainPod("allowing"), drainPod("lone"), drainPod("always", notReady), drainPod("short", notReady), drainPod("spare", notReady))
	version := s.Version()
	blocked, err := upgrade.DrainBlocked(soon(t), s.Client(t, kube.Options{}), "w-1", upgrade.DefaultDrainOptions())
	want := []string{
		"pod default/short is held by PodDisruptionBudget short, which allows no disruption (1 healthy pods, 2 needed); hint: another replica",
		"pod default/web is held by PodDisruptionBudget web, which allows no disruption (2 healthy pods, 2 needed); hint: another replica",
	}
	if d := cmp.Diff(want, blocked); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if s.Version() != version || len(s.asked()) > 0 {
		t.Errorf("it has evicted %v", s.asked())
	}
}

func TestDrainSelector(t *testing.T) {
	s := newDrainServer(t, drainPod("web"), drainPod("db", ownerless))
	opts := upgrade.DefaultDrainOptions()
	opts.PodSelector = "app=web"
	if err := upgrade.Drain(soon(t), s.Client(t, kube.Options{}), "w-1", opts); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"db"}, s.pods(t)); d != "" {
		t.Errorf("what stays (-want +got):\n%s", d)
	}
}
