//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/myadm/myadm/e2e/lab"
)

// event is what a line of --log-format json tells of the phases.
type event struct {
	Msg   string `json:"msg"`
	Phase string `json:"phase"`
	Host  string `json:"host"` // empty: of the cluster itself
}

// boundary is the end of a phase on a host, or of one of the cluster's.
type boundary struct{ phase, host string }

func (b boundary) String() string {
	if b.host == "" {
		return b.phase
	}
	return b.phase + " on " + b.host
}

// moment is when a fault strikes a run: as a phase has ended, or while it is under way.
type moment struct {
	boundary
	within bool
	after  time.Duration // within: since the phase began to change something; if it ends before that, as it ends
}

func (m moment) String() string {
	if m.within {
		return fmt.Sprintf("%.1f s into %s", m.after.Seconds(), m.boundary)
	}
	return "after " + m.boundary.String()
}

// fault is what happens to a run at its moment.
type fault struct {
	kind   string
	where  []string // hosts, unless it is myadm that is struck
	strike func(ctx context.Context, run *running) error
	codes  []int // with which the run may end
}

// The kinds of faults.
const (
	faultKill  = "SIGKILL"
	faultCut   = "SSH cut"
	faultPower = "power cycle"
)

// newFault makes a fault of a kind that strikes some of the hosts.
func (s *site) newFault(kind string, link *lab.Link, hosts []string, random *rand.Rand) fault {
	one := hosts[random.IntN(len(hosts)):][:1]
	switch kind {
	case faultCut:
		if random.IntN(2) == 0 {
			one = hosts
		}
		return fault{kind, one, func(context.Context, *running) error {
			link.Drop(one...)
			return nil
		}, []int{0, 1}}
	case faultPower:
		return fault{kind, one, func(ctx context.Context, _ *running) error {
			if err := s.Kill(ctx, one[0]); err != nil {
				return err
			}
			return s.Start(ctx, one[0])
		}, []int{0, 1}}
	}
	return fault{faultKill, nil, func(_ context.Context, run *running) error {
		return run.cmd.Process.Signal(syscall.SIGKILL)
	}, []int{128 + int(syscall.SIGKILL)}}
}

func (f fault) String() string {
	if len(f.where) == 0 {
		return f.kind
	}
	return f.kind + " of " + strings.Join(f.where, ", ")
}

// strike runs myadm, has the fault strike at the moment, and returns how the run ended. It tells whether the moment came.
func (s *site) strike(t *testing.T, m moment, f fault, args ...string) (result, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	began, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	run := s.start(ctx, t, func(line string) {
		var e event
		if json.Unmarshal([]byte(line), &e) != nil || e.Phase != m.phase || e.Host != m.host {
			return
		}
		signal := ended
		switch e.Msg {
		case "applying":
			signal = began
		case "applied", "unchanged": // what was planned may have come about by itself
		default:
			return
		}
		select {
		case signal <- struct{}{}:
		default: // it is told of already
		}
	}, nil, args...)
	over := make(chan outcome, 1)
	go func() {
		r, err := run.wait()
		over <- outcome{r, err}
	}()

	var due <-chan time.Time
	for struck := false; ; {
		select {
		case <-began:
			if m.within {
				due = time.After(m.after)
			}
			continue
		case <-ended:
		case <-due:
		case e := <-over:
			must(t, e.err)
			return e.result, struck
		}
		if !struck {
			struck = true
			must(t, f.strike(ctx, run))
		}
	}
}
