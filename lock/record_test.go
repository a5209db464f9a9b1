package lock

import (
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestMessages(t *testing.T) {
	since := time.Date(2026, 11, 27, 9, 41, 3, 0, time.Local)
	ann := Record{ID: "x", User: "ann@desk", PID: 42, Command: "myadm apply"}
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"held", &HeldError{By: ann, What: "the cluster", Since: since, Renewed: 2500 * time.Millisecond, Expiry: 15 * time.Second},
			"the cluster is locked by ann@desk (pid 42, myadm apply) since 09:41:03, renewed 2 s ago; hint: "},
		{"held by a Lease made by hand", &HeldError{By: Record{User: "me"}, What: "the cluster", Renewed: -1}, "the cluster is locked by me; hint: "},
		{"held by nobody knows whom", &HeldError{What: "w-1", Renewed: -1}, "w-1 is locked by somebody; hint: "},
		{"taken", &LostError{By: ann, What: "the cluster"}, "the lock of the cluster was taken by ann@desk (pid 42, myadm apply); this run has stopped"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: got %q, want %q...", tt.name, got, tt.want)
		}
	}
}

func TestParseHeld(t *testing.T) {
	h := parseHeld(`100 98 40 {"id":"x","user":"ann@desk","pid":42,"command":"myadm apply"}`)
	e := h.error(&Options{})
	if e.By.String() != "ann@desk (pid 42, myadm apply)" || e.Renewed != 2*time.Second || e.Since.Unix() != 40 || e.Expiry != DefaultExpiry {
		t.Errorf("%+v", e)
	}
	if e := parseHeld("100 0 0 ").error(&Options{}); e.Renewed >= 0 || !e.Since.IsZero() || e.By.String() != "somebody" {
		t.Errorf("of one who has not written yet: %+v", e)
	}
}

// What stands in a lock's file or in a Lease may be anybody's.
func FuzzParseHeld(f *testing.F) {
	f.Add(`100 98 40 {"id":"x","user":"ann@desk","pid":42,"command":"myadm apply"}`)
	f.Add("100 0 0 ")
	f.Add("-1 99999999999999999999 x {}")
	f.Add("1 9 2 {\"user\":\"\\u001b[2J\",\"command\":\"\\u202e\"}")
	f.Fuzz(func(t *testing.T, text string) {
		e := parseHeld(text).error(&Options{})
		if e.Renewed < -1 || len(e.Error()) > 4096 {
			t.Errorf("%+v", e)
		}
		for _, r := range e.Error() {
			if !unicode.IsPrint(r) {
				t.Errorf("%q would be obeyed by a terminal", e.Error())
			}
		}
	})
}
