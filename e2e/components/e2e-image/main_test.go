package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestGetRetries(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "pod-a\n")
	}))
	defer server.Close()
	var out strings.Builder
	if err := run(t.Context(), &out, []string{"get", server.URL}); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("asking once gave %v, want the 503", err)
	}
	if err := run(t.Context(), &out, []string{"get", server.URL, "10s"}); err != nil || out.String() != "pod-a\n" {
		t.Errorf("asking again gave %q, %v", out.String(), err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"get"}, {"ask"}, {"lookup"}, {"load"}, {"dance"}} {
		if err := run(t.Context(), io.Discard, args); err == nil || !strings.Contains(err.Error(), "usage") {
			t.Errorf("%q gave %v", args, err)
		}
	}
}
