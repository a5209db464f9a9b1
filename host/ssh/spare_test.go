package ssh_test

import (
	"context"
	"testing"
	"time"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/ssh"
	"github.com/myadm/myadm/host/ssh/sshdtest"
)

// TestSessionsAreOpenBefore: those of the next commands are, beside the warden's and SFTP's, though nobody has asked for
// anything yet. Opening one takes a round trip.
func TestSessionsAreOpenBefore(t *testing.T) {
	server := sshdtest.New(t, sshdtest.Config{})
	h := dial(t, server, ssh.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for server.MostSessions() != 5 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d sessions are open, want the warden's, SFTP's and three spare ones", server.MostSessions())
		}
	}
	for range 10 {
		if _, err := h.Run(t.Context(), host.Command("true")); err != nil {
			t.Fatal(err)
		}
	}
}
