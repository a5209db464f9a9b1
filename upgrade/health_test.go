package upgrade

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/staticpod"
)

// A look that tells nothing is no verdict, neither that all is well nor that the host is lost; several in a row are.
func TestWatchCrashesBearsALostLook(t *testing.T) {
	for _, tt := range []struct {
		lost int // looks that fail before one tells
		want string
	}{{0, ""}, {2, ""}, {3, "connection lost"}} {
		t.Run(fmt.Sprint(tt.lost), func(t *testing.T) {
			t.Parallel() // there is a pause between two looks
			r := newRig(t, "w-1")
			h, looks := r.hosts["w-1"], 0
			h.OnPrefix("sh", "-c", staticpod.ProgramsScript, "sh").Do(func(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
				if looks++; looks <= tt.lost {
					return nil, errors.New("connection lost")
				}
				return h.programs(f, cmd)
			})
			healthy, all := context.WithCancel(t.Context())
			all()
			err := watchCrashes(t.Context(), healthy, r.Workers()[0], map[string]string{kubelet: oldVersion})
			if tt.want == "" && (err != nil || looks != tt.lost+1) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("after %d looks: %v", looks, err)
			}
		})
	}
}
