package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubectl/pkg/drain"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/workflow"
)

// DrainOptions are the choices of kubectl drain, by the names that it gives them. Pods of DaemonSets are always left alone
// (--ignore-daemonsets), and so are static pods.
type DrainOptions struct {
	Force                    bool          // also pods that no controller would replace
	DeleteEmptyDirData       bool          // also pods whose emptyDir volumes are lost with them
	DisableEviction          bool          // delete pods, past their PodDisruptionBudgets
	GracePeriod              int           // seconds that pods get to end; negative: each pod's own; 0: they are killed
	SkipWaitForDeleteTimeout int           // seconds after which a pod that should have ended is no longer waited for; 0: never
	PodSelector              string        // a label selector: no other pods; empty: all
	Timeout                  time.Duration // of a node; 0: none
}

// DefaultDrainOptions are kubectl's, with an end.
func DefaultDrainOptions() DrainOptions {
	return DrainOptions{GracePeriod: -1, Timeout: 5 * time.Minute}
}

const (
	// evictAgain lies between two tries to evict pods that were refused. A budget that allows a disruption again could be
	// watched, but the API server decides by more than budgets.
	evictAgain = time.Second

	// evictAtOnce is how many requests are under way at a time.
	evictAtOnce = 8

	tellEvery = time.Second
)

func (o DrainOptions) helper(ctx context.Context, client *kube.Client) *drain.Helper {
	return &drain.Helper{
		Ctx:                             ctx,
		Client:                          client.Typed,
		IgnoreAllDaemonSets:             true,
		GracePeriodSeconds:              o.GracePeriod,
		SkipWaitForDeleteTimeoutSeconds: o.SkipWaitForDeleteTimeout,
		PodSelector:                     o.PodSelector,
		// The helper would only tell of the first choice that a pod lacks, in words of kubectl's; held names them all.
		Force:              true,
		DeleteEmptyDirData: true,
	}
}

// DrainError is a node that could not be drained.
type DrainError struct {
	Node  string
	Left  []string // the pods that stay and why, each a clause: "pod default/web has emptyDir volumes, ..."
	Hints []string // flags that would help
	Cause error    // nil: nothing was begun, since some pods would not go
}

func (e *DrainError) Error() string {
	text := "drain node " + e.Node
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	if len(e.Left) > 0 {
		text += ": " + strings.Join(e.Left, "; ")
	}
	if len(e.Hints) > 0 {
		text += "; hint: " + strings.Join(e.Hints, ", ")
	}
	return text
}

func (e *DrainError) Unwrap() error { return e.Cause }

// errDrainTimeout is the Cause when DrainOptions.Timeout is over.
var errDrainTimeout = errors.New("time is over")

// Drain moves the pods of a node away: each is evicted, as soon as its PodDisruptionBudget allows that, and has ended when
// Drain returns. If pods would not go for want of a choice in opts, nothing is begun. The error is a *DrainError.
func Drain(ctx context.Context, client *kube.Client, node string, opts DrainOptions) error {
	bounded := ctx
	if opts.Timeout > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeoutCause(ctx, opts.Timeout, fmt.Errorf("%w (%s)", errDrainTimeout, opts.Timeout))
		defer cancel()
	}
	pods, never, _, err := assess(bounded, client, node, opts)
	if err != nil {
		return &DrainError{Node: node, Cause: err}
	}
	if len(never) > 0 {
		return refusal(node, never)
	}
	d := &drainer{client: client, node: node, opts: opts, left: pods, total: len(pods), answers: map[types.UID]error{}}
	cause := d.run(bounded)
	if cause == nil {
		return nil
	}
	e := &DrainError{Node: node, Cause: cause}
	var budgets []*policyv1.PodDisruptionBudget
	if ctx.Err() == nil {
		budgets, _ = listBudgets(ctx, client) // without them the API server's own words have to do
	}
	for _, pod := range d.left {
		if errors.As(cause, new(refusedError)) && d.answers[pod.UID] == nil {
			continue // it may well be gone
		}
		e.Left = append(e.Left, podClause(pod, d.why(pod, budgets)))
	}
	if errors.Is(cause, errDrainTimeout) {
		e.Hints = []string{"--drain-timeout gives pods more time"}
	}
	return e
}

// DrainBlocked says which pods of a node would not go, each a clause with a hint, and changes nothing. Pods whose budget
// allows no disruption at this moment are among them: Drain waits for these.
func DrainBlocked(ctx context.Context, client *kube.Client, node string, opts DrainOptions) ([]string, error) {
	_, never, notNow, err := assess(ctx, client, node, opts)
	if err != nil {
		return nil, fmt.Errorf("drain node %s: %w", node, err)
	}
	var blocked []string
	for _, h := range slices.Concat(never, notNow) {
		blocked = append(blocked, podClause(h.pod, h.why)+"; hint: "+strings.Join(h.hints, ", "))
	}
	return blocked, nil
}

// drainer takes pods away from a node.
type drainer struct {
	client *kube.Client
	node   string
	opts   DrainOptions
	total  int
	left   []*corev1.Pod
	told   time.Time

	mu      sync.Mutex
	answers map[types.UID]error // the last one to an eviction, if it was an error
}

// run returns nil when no pods are left, and else why it had to end.
func (d *drainer) run(ctx context.Context) error {
	d.report(ctx)
	for len(d.left) > 0 {
		if err := d.evict(ctx); err != nil {
			return err
		}
		if err := d.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// evict asks once for every pod that does not end yet. The error is one that another try would not help against.
func (d *drainer) evict(ctx context.Context) error {
	helper := d.opts.helper(ctx, d.client)
	var g errgroup.Group
	g.SetLimit(evictAtOnce)
	for _, pod := range d.left {
		if pod.DeletionTimestamp != nil {
			continue
		}
		g.Go(func() error {
			var err error
			if d.opts.DisableEviction {
				err = helper.DeletePod(*pod)
			} else {
				err = helper.EvictPod(*pod, policyv1.SchemeGroupVersion)
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			switch {
			case err == nil || apierrors.IsNotFound(err):
				delete(d.answers, pod.UID)
			case ctx.Err() == nil: // otherwise it says nothing of the pod
				d.answers[pod.UID] = err
				if final(err) {
					return refusedError{err}
				}
			}
			return nil
		})
	}
	err := g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// refusedError is a Cause whose own words are in Left.
type refusedError struct{ error }

func (refusedError) Error() string   { return "the API server refuses" }
func (e refusedError) Unwrap() error { return e.error }

// final tells whether the API server has judged the request itself.
func final(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false // the network
	}
	switch code := status.Status().Code; code {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return false
	case http.StatusForbidden:
		return !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) // then its pods go by themselves
	default:
		return code < http.StatusInternalServerError
	}
}

// wait follows the pods until all have ended, or it is time to ask again for those that have not begun to.
func (d *drainer) wait(ctx context.Context) error {
	round := ctx
	again := slices.ContainsFunc(d.left, func(p *corev1.Pod) bool { return d.answers[p.UID] != nil })
	if again || d.opts.SkipWaitForDeleteTimeout > 0 {
		var cancel context.CancelFunc
		round, cancel = context.WithTimeout(ctx, evictAgain)
		defer cancel()
	}
	sel := kube.Selector{APIVersion: "v1", Kind: "Pod", Fields: "spec.nodeName=" + d.node}
	err := kube.Until(round, d.client, sel, func(now []*corev1.Pod) []string {
		before := len(d.left)
		d.left = d.remaining(now)
		if len(d.left) < before {
			d.report(ctx)
		}
		var names []string
		for _, pod := range d.left {
			names = append(names, podName(pod))
		}
		return names
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case round.Err() != nil:
		return nil
	}
	return err
}

// remaining are those of the pods that are left which are still there, as they are now.
func (d *drainer) remaining(now []*corev1.Pod) []*corev1.Pod {
	var left []*corev1.Pod
	for _, pod := range now {
		ours := slices.ContainsFunc(d.left, func(p *corev1.Pod) bool { return p.UID == pod.UID })
		patience := time.Duration(d.opts.SkipWaitForDeleteTimeout) * time.Second
		skipped := patience > 0 && pod.DeletionTimestamp != nil && time.Since(pod.DeletionTimestamp.Time) > patience
		if ours && !skipped {
			left = append(left, pod)
		}
	}
	return left
}

// report tells how far it is, at most once in a while: a node has up to some hundred pods.
func (d *drainer) report(ctx context.Context) {
	if time.Since(d.told) < tellEvery {
		return
	}
	d.told = time.Now()
	workflow.Tell(ctx, fmt.Sprintf("drain: %d of %d pods gone", d.total-len(d.left), d.total))
}

// why says why a pod is still there.
func (d *drainer) why(pod *corev1.Pod, budgets []*policyv1.PodDisruptionBudget) string {
	answer := d.answers[pod.UID]
	switch {
	case pod.DeletionTimestamp != nil:
		return "is still ending"
	case answer == nil:
		return "has not ended"
	case apierrors.IsTooManyRequests(answer):
		if why, _ := budgetHolds(budgets, pod); why != "" {
			return why
		}
	}
	return "cannot be evicted: " + answer.Error()
}
