package local_test

import (
	"testing"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/host/local"
)

func TestConformance(t *testing.T) {
	open := func(t *testing.T) host.Host {
		h, err := local.New()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	hosttest.Conformance(t, open, func(t *testing.T) string { return t.TempDir() })
}
