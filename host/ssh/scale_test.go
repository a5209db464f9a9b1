package ssh_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/ssh"
	"github.com/myadm/myadm/host/ssh/sshdtest"
)

// TestManyHosts works on many hosts at once, each of which has its own /srv.
func TestManyHosts(t *testing.T) {
	const hosts = 40
	dialer := ssh.NewDialer(isolated(ssh.Options{ConnectTimeout: time.Minute}))
	var all errgroup.Group
	for i := range hosts {
		server := sshdtest.New(t, sshdtest.Config{Own: []string{"/srv"}})
		to := target(server)
		to.Name = fmt.Sprint("host-", i)
		all.Go(func() error {
			h, err := dialer.Dial(t.Context(), to)
			if err != nil {
				return err
			}
			defer h.Close()
			file := host.File{Path: "/srv/myadm/name", Mode: 0o644, Data: []byte(h.Name())}
			if err := h.WriteFiles(t.Context(), file); err != nil {
				return err
			}
			out, err := h.Run(t.Context(), host.Command("cat", file.Path))
			if err == nil && string(out) != h.Name() {
				err = fmt.Errorf("%s has the file of %s", h.Name(), out)
			}
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}
