package hosttest_test

import (
	"testing"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
)

func TestFakeConforms(t *testing.T) {
	open := func(t *testing.T) host.Host {
		f := hosttest.New(t, "fake")
		f.Mkdir("/srv", 0o755)
		return f
	}
	root := func(*testing.T) string { return "/srv" }
	hosttest.ConformFiles(t, open, root)
}
