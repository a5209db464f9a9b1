package ask

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

func TestFailuresAreCounted(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "pod-a\n")
	}))
	defer server.Close()
	a := Start(t.Context(), server.URL)
	await(a, 3)
	got := a.Result()
	if got.Failures != 1 || got.Reasons["status 503"] != 1 || got.Servers["pod-a"] != got.Requests-1 {
		t.Errorf("%+v", got)
	}
	if got.LongestGap < every.Seconds() || got.LongestGap > timeout.Seconds() {
		t.Errorf("the longest gap is %g s", got.LongestGap)
	}
}

func TestNobodyThere(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	a := Start(t.Context(), server.URL)
	await(a, 1)
	if got := a.Result(); got.Failures != got.Requests || got.Reasons["dial: connect: connection refused"] != got.Failures {
		t.Errorf("%+v", got)
	}
}

// await returns after so many requests.
func await(a *Asker, requests int) {
	for range time.Tick(time.Millisecond) {
		if a.Result().Requests >= requests {
			return
		}
	}
}
