package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Result is what a client saw in some time. Gaps are in seconds and those of one object: of the object, and the moment,
// where it was the longest. A gap that goes on counts as far as it has come.
type Result struct {
	Load            string         `json:"load"`
	Seconds         float64        `json:"seconds"`
	Requests        int            `json:"requests"`        // reads and writes
	Failures        int            `json:"failures"`        // of them
	Acknowledged    int            `json:"acknowledged"`    // writes
	Reads           int            `json:"reads"`           // that found the object
	LongestWriteGap float64        `json:"longestWriteGap"` // between two writes that were acknowledged
	Events          int            `json:"events"`          // that the watch told
	Reconnects      int            `json:"reconnects"`      // of the watch, failed ones too
	Relists         int            `json:"relists"`         // the watch could not go on from where it ended
	LongestWatchGap float64        `json:"longestWatchGap"` // between two events
	Lost            []string       `json:"lost"`            // acknowledged writes that were gone when the object was read
	Missed          []string       `json:"missed"`          // acknowledged writes that the watch passed over
	Reasons         map[string]int `json:"reasons"`         // of failures
}

func newResult(name string) Result { return Result{Load: name, Lost: []string{}, Missed: []string{}} }

// seconds is a time in seconds, to the millisecond.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// Merge adds what was seen in a later time.
func (r *Result) Merge(later Result) {
	r.Seconds = math.Round((r.Seconds+later.Seconds)*1000) / 1000
	r.Requests += later.Requests
	r.Failures += later.Failures
	r.Acknowledged += later.Acknowledged
	r.Reads += later.Reads
	r.LongestWriteGap = max(r.LongestWriteGap, later.LongestWriteGap)
	r.Events += later.Events
	r.Reconnects += later.Reconnects
	r.Relists += later.Relists
	r.LongestWatchGap = max(r.LongestWatchGap, later.LongestWatchGap)
	r.Lost = append(r.Lost, later.Lost...)
	r.Missed = append(r.Missed, later.Missed...)
	for reason, n := range later.Reasons {
		r.reason(reason, n)
	}
}

func (r *Result) reason(reason string, n int) {
	if r.Reasons == nil {
		r.Reasons = map[string]int{}
	}
	r.Reasons[reason] += n
}

// Lap returns what was seen since the last Lap, or since the start.
func (l *Load) Lap() Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, o := range l.objects {
		l.lap.LongestWriteGap = max(l.lap.LongestWriteGap, seconds(now.Sub(o.written)))
		l.lap.LongestWatchGap = max(l.lap.LongestWatchGap, seconds(now.Sub(o.told)))
	}
	lap := l.lap
	lap.Seconds = seconds(now.Sub(l.lapBegan))
	l.total.Merge(lap)
	l.lap, l.lapBegan = newResult(l.o.Name), now
	return lap
}

// count counts a request by how it ended.
func (l *Load) count(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lap.Requests++
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
		l.lap.Failures++
		l.lap.reason(reasonOf(err), 1)
	}
}

// acknowledge notes that the cluster has taken a number.
func (l *Load) acknowledge(o *object, number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.lap.Acknowledged++
	l.lap.LongestWriteGap = max(l.lap.LongestWriteGap, seconds(now.Sub(o.written)))
	o.acknowledged, o.written = number, now
}

// compare takes what a read found: a number, 0 for no object. One that is older than the one acknowledged before is a loss.
func (l *Load) compare(o *object, found int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if found > 0 {
		l.lap.Reads++
	}
	if found < o.acknowledged {
		l.lap.Lost = append(l.lap.Lost, fmt.Sprintf("%s: %d was acknowledged, and a read found %d", o.name, o.acknowledged, found))
		o.acknowledged = found // told once
	}
}

// reasonOf names a failure without what differs from one to the next, such as ports.
func reasonOf(err error) string {
	var (
		operation *net.OpError
		request   *url.Error
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case apierrors.ReasonForError(err) != metav1.StatusReasonUnknown:
		return string(apierrors.ReasonForError(err))
	case errors.As(err, &operation):
		return operation.Op + ": " + operation.Err.Error()
	case errors.As(err, &request):
		return request.Err.Error()
	}
	return err.Error()
}
