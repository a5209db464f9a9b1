package load

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// run puts a load of one object on a server, quick enough for a test, and has it do a few writes.
func run(t *testing.T, s *server, during func(l *Load)) (Result, error) {
	t.Helper()
	l := Start(t.Context(), Options{
		Client: s.client(t), Name: "x", Objects: 1, Every: time.Millisecond, Timeout: 200 * time.Millisecond,
	})
	until(t, l, 10)
	if during != nil {
		during(l)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	return l.Stop(ctx)
}

// once gives one write its fault, the first time that it comes.
func once(number int, f fault) func(int) fault {
	var done atomic.Bool
	return func(n int) fault {
		if n == number && !done.Swap(true) {
			return f
		}
		return none
	}
}

func TestCalm(t *testing.T) {
	got, err := run(t, newServer(t), nil)
	if err != nil || got.Acknowledged < 10 || got.Reads < 10 || got.Events == 0 || got.Requests < got.Acknowledged || got.Seconds <= 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if got.Failures+got.Reconnects+got.Relists+len(got.Lost)+len(got.Missed)+len(got.Reasons) > 0 {
		t.Errorf("it found fault with a cluster without any: %+v", got)
	}
}

func TestLostWriteIsTold(t *testing.T) {
	s := newServer(t)
	s.onWrite = once(5, lose)
	got, err := run(t, s, nil)
	if err != nil || len(got.Lost) != 1 || !strings.Contains(got.Lost[0], "5 was acknowledged, and a read found 4") {
		t.Errorf("%+v, %v", got, err)
	}
}

// The last write is looked for, too.
func TestLostObjectIsTold(t *testing.T) {
	s := newServer(t)
	got, err := run(t, s, func(l *Load) {
		l.endWrites()
		l.writers.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		clear(s.objects)
	})
	if err != nil || len(got.Lost) != 1 || !strings.Contains(got.Lost[0], "found 0") {
		t.Errorf("%+v, %v", got, err)
	}
}

// A write that arrived without an answer is one failure and no loss, and is not done twice.
func TestUnansweredWrite(t *testing.T) {
	s := newServer(t)
	s.onWrite = once(5, mute)
	got, err := run(t, s, nil)
	if err != nil || got.Failures != 1 || got.Reasons["no answer in time"] != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if len(got.Lost)+len(got.Missed) > 0 || got.LongestWriteGap < 0.2 {
		t.Errorf("%+v", got)
	}
}

func TestGapsAreThoseOfTheirLap(t *testing.T) {
	s := newServer(t)
	var closed atomic.Bool
	s.onWrite = func(int) fault {
		if closed.Load() {
			return refuse
		}
		return none
	}
	var calm, gap, after Result
	whole, err := run(t, s, func(l *Load) {
		calm = l.Lap()
		closed.Store(true)
		began := time.Now()
		for time.Since(began) < 300*time.Millisecond {
			pause(t.Context(), 10*time.Millisecond)
		}
		gap = l.Lap()
		closed.Store(false)
		until(t, l, calm.Acknowledged+gap.Acknowledged+5)
		l.Lap()
		until(t, l, calm.Acknowledged+gap.Acknowledged+50)
		after = l.Lap()
	})
	if err != nil || gap.LongestWriteGap < 0.25 || gap.LongestWatchGap < 0.25 || gap.Failures == 0 || gap.Reasons["ServiceUnavailable"] != gap.Failures {
		t.Errorf("%+v, %v", gap, err)
	}
	if after.LongestWriteGap >= gap.LongestWriteGap || after.Failures != 0 {
		t.Errorf("the lap after the gap: %+v", after)
	}
	if whole.LongestWriteGap < gap.LongestWriteGap || whole.Failures != gap.Failures || len(whole.Lost) > 0 {
		t.Errorf("the whole: %+v", whole)
	}
}

func TestWatchThatPassesOverANumberIsTold(t *testing.T) {
	s := newServer(t)
	s.onEvent = func(number int) bool { return number != 5 }
	got, err := run(t, s, nil)
	if err != nil || len(got.Missed) != 1 || !strings.Contains(got.Missed[0], "6 came after 4") {
		t.Errorf("%+v, %v", got, err)
	}
}

// A watch that tells nothing any more is told by the last number.
func TestSilentWatchIsTold(t *testing.T) {
	s := newServer(t)
	s.onEvent = func(number int) bool { return number < 5 }
	if got, err := run(t, s, nil); err == nil || !strings.Contains(err.Error(), "the watch is at 4") {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWatchIsTakenUpAgain(t *testing.T) {
	for _, forget := range []bool{false, true} {
		s := newServer(t)
		got, err := run(t, s, func(l *Load) {
			s.endWatches(forget)
			until(t, l, 100)
		})
		if err != nil || got.Reconnects == 0 || (got.Relists > 0) != forget || len(got.Missed)+len(got.Lost) > 0 {
			t.Errorf("forget %t: %+v, %v", forget, got, err)
		}
	}
}
