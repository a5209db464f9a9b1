package ssh_test

import (
	"testing"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/host/ssh"
	"github.com/myadm/myadm/host/ssh/sshdtest"
)

// sudo scripts stand for the real one, which the e2e tests use: what is proven here is who reads which line of input.
const (
	sudoFree = `while [ "$1" != -- ]; do shift; done; shift; exec "$@"`

	sudoWithPassword = `prompt=; ask=; need=1
while [ "$1" != -- ]; do
  case $1 in -p) prompt=$2; shift ;; -S) ask=1 ;; -n) need=no ;; esac
  shift
done
shift
[ $need = 1 ] || { echo "sudo: a password is required" >&2; exit 1; }
for try in 1 2 3; do
  printf %s "$prompt" >&2
  read -r given || { echo "sudo: no password was provided" >&2; exit 1; }
  [ "$given" = "hunter 2" ] && exec "$@"
  echo "Sorry, try again." >&2
done
echo "sudo: 3 incorrect password attempts" >&2
exit 1`
)

func TestConformance(t *testing.T) {
	tests := []struct {
		name   string
		config sshdtest.Config
		suite  func(t *testing.T, open func(*testing.T) host.Host, root func(*testing.T) string)
	}{
		{"root", sshdtest.Config{}, hosttest.Conformance},
		{"root with subsystem", sshdtest.Config{Subsystem: true}, hosttest.ConformFiles},
		{"sudo", sshdtest.Config{Sudo: sudoFree}, hosttest.ConformCommands},
		{"sudo with password", sshdtest.Config{Sudo: sudoWithPassword}, hosttest.Conformance},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := sshdtest.New(t, tt.config)
			open := func(t *testing.T) host.Host {
				return dial(t, server, ssh.Options{SudoPassword: []byte("hunter 2")})
			}
			tt.suite(t, open, func(t *testing.T) string { return t.TempDir() })
		})
	}
}

// target is the server, with its key pinned.
func target(s *sshdtest.Server) ssh.Target {
	return ssh.Target{Name: "h1", Address: "127.0.0.1", Port: s.Port(), User: "ops", KeyFile: s.Key, HostKey: s.HostKey()}
}

// dial connects to a server with nothing of the user's own configuration.
func dial(t *testing.T, s *sshdtest.Server, opts ssh.Options) *ssh.Host {
	t.Helper()
	h, err := ssh.Dial(t.Context(), target(s), isolated(opts))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func isolated(opts ssh.Options) ssh.Options {
	if opts.UserConfigFile == "" {
		opts.UserConfigFile = "/dev/null"
	}
	if opts.AgentSocket == "" {
		opts.AgentSocket = "none"
	}
	return opts
}
