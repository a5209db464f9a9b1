package kube_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
)

func TestNowIsTheServers(t *testing.T) {
	s := kubetest.NewServer(t)
	s.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		return false
	}
	c := s.Client(t, kube.Options{})
	if ahead := time.Until(c.Now()); ahead > time.Minute {
		t.Errorf("%s ahead before there was an answer", ahead)
	}
	if _, err := c.Get(t.Context(), kubeSystem); err != nil {
		t.Fatal(err)
	}
	if ahead := time.Until(c.Now()); ahead < 59*time.Minute || ahead > 61*time.Minute {
		t.Errorf("%s ahead, want an hour", ahead)
	}
}
