package upgrade

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/staticpod"
)

// maxRestarts is how often a program may be started again before it is given up. The API server ends itself when etcd is
// not up in time, and that is no fault; what fails for a reason of its own fails every time.
const maxRestarts = 2

// watchPause lies between two looks at what runs on a host.
const watchPause = time.Second

// maxBlindLooks is how many looks in a row may fail before a host is given up.
const maxBlindLooks = 3

// illError is a component that does not become what it should be.
type illError struct {
	Component string
	Version   string
	Err       error
	Words     string // what it said last, and what the kubelet says of it
}

func (e *illError) Error() string {
	return strings.TrimSpace(e.Component+" "+e.Version) + ": " + e.Err.Error() + e.Words
}

func (e *illError) Unwrap() error { return e.Err }

// judge waits until a host's components are what they are to be, by what they really do: the program that runs is of the
// wanted version (by name; an empty one may be any), and it calls itself healthy; a member of etcd takes part. What
// crashes again and again is not waited for. The error is an *illError, or ctx's.
func judge(ctx context.Context, c *cluster.Cluster, n *cluster.Node, want map[string]string, patience time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	g, waiting := errgroup.WithContext(waiting)
	healthy, all := context.WithCancel(waiting)
	defer all()
	var crashed, unhealthy error
	g.Go(func() error {
		defer all()
		unhealthy = judgeHealth(waiting, c, n, want)
		return unhealthy
	})
	g.Go(func() error {
		crashed = watchCrashes(waiting, healthy, n, want)
		return crashed
	})
	err := g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if ill := firstIll(crashed, unhealthy); ill != nil {
		ill.Version, ill.Words = want[ill.Component], lastWords(ctx, n, ill.Component)
		return ill
	}
	return err
}

// firstIll is the component to blame of those that the errors name: the one that comes up first, since those after it need
// it. Of two errors that name the same one it is the first.
func firstIll(errs ...error) *illError {
	var first *illError
	rank := func(e *illError) int {
		if i := slices.Index(componentOrder, e.Component); i >= 0 {
			return i
		}
		return len(componentOrder)
	}
	for _, err := range errs {
		var ill *illError
		if errors.As(err, &ill) && (first == nil || rank(ill) < rank(first)) {
			first = ill
		}
	}
	return first
}

// judgeHealth asks the components themselves, all at the same time, and waits for each; of those that it waits for in vain
// the error is about the one that comes up first.
func judgeHealth(ctx context.Context, c *cluster.Cluster, n *cluster.Node, want map[string]string) error {
	var asked sync.WaitGroup
	parts := phases.Components(c)
	errs := make([]error, len(parts))
	for i, part := range parts {
		if _, ok := want[part.Name]; !ok {
			continue
		}
		probes := []kube.Probe{part.Probe(c, n)}
		if part.Name == manifests.APIServerName {
			live := probes[0]
			live.URL = strings.Replace(live.URL, "/readyz", "/livez", 1)
			probes = append(probes, live)
		}
		asked.Go(func() {
			for _, p := range probes {
				if err := kube.WaitHealthy(ctx, p); err != nil {
					errs[i] = &illError{Component: part.Name, Err: err}
					return
				}
			}
			if part.Name == manifests.EtcdName {
				errs[i] = waitMember(ctx, c, n)
			}
		})
	}
	asked.Wait()
	if ill := firstIll(errs...); ill != nil {
		return ill
	}
	return errors.Join(errs...)
}

// watchCrashes looks at what runs until all is healthy, and then that it is what it should be.
func watchCrashes(ctx, healthy context.Context, n *cluster.Node, want map[string]string) error {
	tick := time.NewTicker(watchPause)
	defer tick.Stop()
	before := map[string]int{} // restarts that were not this run's, by what was started
	wrong := ""                // by the last look that told anything
	blind := 0                 // looks in a row that told nothing
	for {
		p, err := staticpod.Running(ctx, n)
		switch {
		case err == nil:
			wrong, blind = "", 0
			for _, name := range slices.Sorted(maps.Keys(want)) {
				r := p.Restarts[name]
				if _, seen := before[r.Of]; !seen {
					before[r.Of] = r.N
				}
				if again := r.N - before[r.Of]; again >= maxRestarts {
					return &illError{Component: name, Err: fmt.Errorf("it was started %d times and has ended each time", again+1)}
				}
				if want[name] != "" && !p.Runs(name, want[name]) && wrong == "" {
					wrong = name
				}
			}
		case ctx.Err() == nil:
			if blind++; blind == maxBlindLooks {
				return err
			}
		}
		settled := wrong == "" && blind == 0
		if healthy.Err() != nil && settled {
			return nil
		}
		select {
		case <-ctx.Done():
			if wrong == "" {
				return nil // what waits for its health says what is missing
			}
			return &illError{Component: wrong, Err: errors.New("it does not run in this version")}
		case <-healthy.Done():
			if settled {
				return nil
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		case <-tick.C:
		}
	}
}

// ill are those of the components that do not call themselves healthy, or do not run in the wanted version, by one look.
func ill(ctx context.Context, c *cluster.Cluster, n *cluster.Node, want map[string]string) (map[string]string, error) {
	p, err := staticpod.Running(ctx, n)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for name, version := range want {
		if version != "" && !p.Runs(name, version) {
			found[name] = "run in version " + version
		}
	}
	parts := phases.Components(c)
	answers := make([]error, len(parts))
	var g errgroup.Group
	for i, part := range parts {
		if _, ok := want[part.Name]; ok {
			g.Go(func() error {
				answers[i] = kube.Healthy(ctx, part.Probe(c, n))
				return ctx.Err()
			})
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, part := range parts {
		if _, known := found[part.Name]; answers[i] != nil && !known {
			found[part.Name] = "wait until it is healthy"
		}
	}
	return found, nil
}

// nodeMissing says what is missing of a Node for its upgrade to be over; nothing when it is Ready by the word of a kubelet
// of the version that was started at since. An empty version may be any, and so may the kubelet of the zero time.
func nodeMissing(node *corev1.Node, version string, since time.Time) string {
	if have := node.Status.NodeInfo.KubeletVersion; version != "" && have != version {
		return "its kubelet reports " + have
	}
	if ready, why := phases.ReadySince(node, since); !ready {
		return "it is not Ready: " + why
	}
	return ""
}

// waitNode waits until nothing of a Node is missing.
func waitNode(ctx context.Context, client *kube.Client, n *cluster.Node, version string, since time.Time, patience time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	g, waiting := errgroup.WithContext(waiting)
	ready, done := context.WithCancel(waiting)
	defer done()
	g.Go(func() error {
		defer done()
		only := kube.Selector{APIVersion: "v1", Kind: "Node", Name: n.Spec.Name}
		return kube.Until(waiting, client, only, func(nodes []*corev1.Node) []string {
			if len(nodes) == 0 {
				return []string{"node " + n.Spec.Name + " is not there"}
			}
			if why := nodeMissing(nodes[0], version, since); why != "" {
				return []string{"node " + n.Spec.Name + ": " + why}
			}
			return nil
		})
	})
	g.Go(func() error { return watchCrashes(waiting, ready, n, map[string]string{kubelet: ""}) })
	err := g.Wait()
	if err == nil || ctx.Err() != nil {
		return err
	}
	var crashed *illError
	if !errors.As(err, &crashed) {
		crashed = &illError{Component: kubelet, Err: err}
	}
	crashed.Version, crashed.Words = version, lastWords(ctx, n, kubelet)
	return crashed
}

// wordsScript prints the last lines of the newest log that the static pod $1 has written something to, and what the kubelet
// says of it; of the kubelet itself, the last errors in its journal: a panic is followed by pages of the program's calls.
const wordsScript = `
exec 2>/dev/null
if [ "$1" = kubelet ]; then
	journalctl -u kubelet.service -n 200 --no-pager -o cat |
		grep -E '^(panic|fatal error|[EF][0-9]{4} |kubelet.service: (Main|Failed))' | tail -n 6 | cut -c 1-600
	exit 0
fi
for log in $(ls -t /var/log/pods/kube-system_"$1"-*/"$1"/*.log | head -n 4); do
	[ -s "$log" ] && tail -n 6 "$log" | cut -c 1-600 && break
done
journalctl -u kubelet.service -n 400 --no-pager -o cat | grep -F "$1" | grep -iE 'err|fail|back-off' | tail -n 2 | cut -c 1-600
true
`

const wordsPatience = 5 * time.Second

// lastWords is what a component and its kubelet said last, for an error message.
func lastWords(ctx context.Context, r host.Reader, component string) string {
	ctx, cancel := context.WithTimeout(ctx, wordsPatience)
	defer cancel()
	out, err := r.Query(ctx, host.Command("sh", "-c", wordsScript, "sh", component))
	if err != nil || len(out) == 0 {
		return "; hint: journalctl -u kubelet on the host"
	}
	return "; last log lines:\n" + strings.TrimRight(string(out), "\n")
}

// hasStackedEtcd tells whether the node runs a member of the cluster's etcd.
func hasStackedEtcd(c *cluster.Cluster, n *cluster.Node) bool {
	return c.Config.Spec.Etcd.External == nil && n.Spec.HasRole(config.RoleControlPlane)
}
