package ssh_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/ssh"
	"github.com/myadm/myadm/host/ssh/sshdtest"
)

// eventually waits for something that another goroutine or process is about to do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// TestBastions has four hosts behind a chain of two bastions, each of which is connected to once.
func TestBastions(t *testing.T) {
	outer, inner := sshdtest.New(t, sshdtest.Config{}), sshdtest.New(t, sshdtest.Config{})
	known := writeFile(t, "known_hosts", "")
	jump := fmt.Sprintf("jump@127.0.0.1:%d,ssh://jump@127.0.0.1:%d", outer.Port(), inner.Port())
	config := writeFile(t, "config", fmt.Sprintf(
		"Host behind\n HostName 127.0.0.1\n User ops\n ProxyJump %s\nHost *\n IdentityFile %s\n IdentityFile %s\n", jump, outer.Key, inner.Key))
	dialer := ssh.NewDialer(isolated(ssh.Options{
		UserConfigFile: config, KnownHostsFiles: []string{known}, AcceptNewHostKeys: true, ConnectTimeout: 10 * time.Second,
	}))
	hosts := make([]*ssh.Host, 4)
	var all errgroup.Group
	for i := range hosts {
		server := sshdtest.New(t, sshdtest.Config{})
		to := target(server)
		if i%2 == 0 {
			to.Address = "behind" // the jump is ssh_config's
		} else {
			to.Bastion = jump
		}
		all.Go(func() (err error) {
			hosts[i], err = dialer.Dial(t.Context(), to)
			if err == nil {
				_, err = hosts[i].Run(t.Context(), host.Command("true"))
			}
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	// Each host names a key of its own, and a bastion is shared by those with the same keys.
	if a, b := outer.Accepted(), inner.Accepted(); a != len(hosts) || b != len(hosts) {
		t.Errorf("bastions were connected to %d and %d times", a, b)
	}
	for _, h := range hosts {
		h.Close()
	}
	eventually(t, "the bastions are let go", func() bool { return outer.Open() == 0 && inner.Open() == 0 })
}

func TestBastionIsShared(t *testing.T) {
	bastion, server := sshdtest.New(t, sshdtest.Config{}), sshdtest.New(t, sshdtest.Config{})
	config := writeFile(t, "config", "Host *\n IdentityFile "+bastion.Key+"\n IdentityFile "+server.Key+"\n")
	known := writeFile(t, "known_hosts", knownLineOf(bastion)+"\n")
	dialer := ssh.NewDialer(isolated(ssh.Options{UserConfigFile: config, KnownHostsFiles: []string{known}}))
	to := target(server)
	to.KeyFile, to.Bastion = "", fmt.Sprintf("127.0.0.1:%d", bastion.Port())
	var all errgroup.Group
	hosts := make([]*ssh.Host, 5)
	for i := range hosts {
		all.Go(func() (err error) {
			hosts[i], err = dialer.Dial(t.Context(), to)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := bastion.Accepted(); n != 1 {
		t.Errorf("the bastion was connected to %d times", n)
	}
	for _, h := range hosts[1:] {
		h.Close()
	}
	if _, err := hosts[0].Run(t.Context(), host.Command("true")); err != nil {
		t.Errorf("the last host behind the bastion: %v", err)
	}
	bastion.Drop()
	if _, err := hosts[0].Run(t.Context(), host.Command("true")); !errors.Is(err, ssh.ErrConnectionLost) {
		t.Errorf("the bastion is gone: %v", err)
	}
	h, err := dialer.Dial(t.Context(), to) // over a new connection to the bastion
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
}

func TestBastionFails(t *testing.T) {
	bastion, server := sshdtest.New(t, sshdtest.Config{}), sshdtest.New(t, sshdtest.Config{})
	gone := sshdtest.New(t, sshdtest.Config{Silent: true})
	tests := []struct {
		name, jump, config string
		want               any
		says               string
	}{
		{"its key is unknown", fmt.Sprint("127.0.0.1:", bastion.Port()), "", new(*ssh.HostKeyUnknownError), "h1: bastion 127.0.0.1"},
		{"it does not answer", fmt.Sprint("127.0.0.1:", gone.Port()), "", new(*ssh.UnreachableError), "bastion 127.0.0.1"},
		{"it is no address", "a b", "", nil, `"a b"`},
		{"it is behind itself", "", "Host *\n ProxyJump loop\n", nil, "more than 8 bastions"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			to := target(server)
			to.Bastion = tt.jump
			_, err := ssh.Dial(t.Context(), to, isolated(ssh.Options{
				UserConfigFile: writeFile(t, "config", tt.config), KnownHostsFiles: []string{writeFile(t, "known_hosts", "")},
				ConnectTimeout: 300 * time.Millisecond,
			}))
			if err == nil || !strings.Contains(err.Error(), tt.says) || tt.want != nil && !errors.As(err, tt.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}
