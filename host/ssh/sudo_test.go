package ssh_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/ssh"
	"github.com/myadm/myadm/host/ssh/sshdtest"
)

func TestSudoFails(t *testing.T) {
	tests := []struct {
		name   string
		config sshdtest.Config
		opts   ssh.Options
		reason ssh.SudoReason
		says   string
	}{
		{"wrong password", sshdtest.Config{Sudo: sudoWithPassword}, ssh.Options{SudoPassword: []byte("wrong")}, ssh.SudoWrongPassword, "Sorry"},
		{"no password", sshdtest.Config{Sudo: sudoWithPassword}, ssh.Options{}, ssh.SudoNeedsPassword, "MYADM_SUDO_PASSWORD"},
		{"not a sudoer", sshdtest.Config{Sudo: "echo 'ops is not in the sudoers file.' >&2; exit 1"}, ssh.Options{}, ssh.SudoNotAllowed, "ops is not in the sudoers file"},
		{"needs a terminal", sshdtest.Config{Sudo: "echo 'sudo: sorry, you must have a tty to run sudo' >&2; exit 1"}, ssh.Options{}, ssh.SudoNeedsTerminal, "requiretty"},
		{"something else", sshdtest.Config{Sudo: "echo 'sudo: error in /etc/sudo.conf' >&2; exit 1"}, ssh.Options{}, ssh.SudoFailed, "error in /etc/sudo.conf"},
		{"hangs", sshdtest.Config{Sudo: "echo waiting >&2; read -r x"}, ssh.Options{ConnectTimeout: time.Second}, ssh.SudoFailed, "waiting"},
		{"no sudo", sshdtest.Config{NoSudo: true}, ssh.Options{}, ssh.SudoMissing, "log in as root"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := sshdtest.New(t, tt.config)
			start := time.Now()
			_, err := ssh.Dial(t.Context(), target(server), isolated(tt.opts))
			var sudo *ssh.SudoError
			if !errors.As(err, &sudo) || sudo.Reason != tt.reason || sudo.Host != "h1" || sudo.User != "ops" || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v", err)
			}
			if strings.Contains(err.Error(), "wrong"+"\n") || strings.Contains(err.Error(), "myadm-sudo-password") {
				t.Errorf("error shows what it should not: %v", err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestSudoPassword: the user is asked once for all hosts, a host's file wins, and the password is on no command line.
func TestSudoPassword(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	spy := "echo \"$*\" >>" + log + "; env >>" + log + "\n" + sudoWithPassword
	user := &asked{answers: []string{"hunter 2"}}
	dialer := ssh.NewDialer(isolated(ssh.Options{Prompt: user.prompt}))
	var all errgroup.Group
	for range 3 {
		server := sshdtest.New(t, sshdtest.Config{Sudo: spy})
		all.Go(func() error {
			h, err := dialer.Dial(t.Context(), target(server))
			if err != nil {
				return err
			}
			defer h.Close()
			_, err = h.Run(t.Context(), host.Command("true"))
			return errors.Join(err, h.WriteFiles(t.Context(), host.File{Path: t.TempDir() + "/f", Mode: 0o600}))
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := user.n.Load(); n != 1 {
		t.Errorf("the user was asked %d times", n)
	}
	seen, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(seen), "/bin/sh") {
		t.Fatalf("log: %v", err)
	}
	if strings.Contains(string(seen), "hunter") {
		t.Error("the password is on a command line or in an environment")
	}

	server := sshdtest.New(t, sshdtest.Config{Sudo: sudoWithPassword})
	to := target(server)
	to.SudoPasswordFile = writeFile(t, "password", "hunter 2\nand a second line\n")
	h, err := ssh.Dial(t.Context(), to, isolated(ssh.Options{SudoPassword: []byte("another host's"), Prompt: user.prompt}))
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
}

// TestNoise: what shells and sudo say before a command is no part of its error output; on standard output it would be
// part of every answer, and is refused.
func TestNoise(t *testing.T) {
	server := sshdtest.New(t, sshdtest.Config{
		Profile: "echo 'welcome' >&2",
		Sudo:    "echo 'sudo: unable to resolve host h1' >&2\n" + sudoFree,
	})
	h := dial(t, server, ssh.Options{})
	_, err := h.Run(t.Context(), host.Command("/bin/sh", "-c", "echo no >&2; exit 4"))
	var exit *host.ExitError
	if !errors.As(err, &exit) || string(exit.Stderr) != "no\n" {
		t.Errorf("error %q", err)
	}

	loud := sshdtest.New(t, sshdtest.Config{Profile: "echo welcome"})
	if _, err := ssh.Dial(t.Context(), target(loud), isolated(ssh.Options{})); err == nil || !strings.Contains(err.Error(), `"welcome"`) {
		t.Errorf("standard output before any command: %v", err)
	}
}

// TestSudoGoesAway: sudo's own failure is not taken for a status of the command.
func TestSudoGoesAway(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "revoked")
	server := sshdtest.New(t, sshdtest.Config{Sudo: "[ -e " + flag + " ] && { echo 'sudo: no more' >&2; exit 1; }\n" + sudoFree})
	h := dial(t, server, ssh.Options{})
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := h.Run(t.Context(), host.Command("false"))
	var sudo *ssh.SudoError
	if _, ran := host.ExitCode(err); ran || !errors.As(err, &sudo) || sudo.Said != "sudo: no more" {
		t.Errorf("error %v", err)
	}
}

// TestSocketsAreOpenedAsRoot: where sshd does not open a socket, it is opened all the same, and as often as one likes.
func TestSocketsAreOpenedAsRoot(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "hello") //nolint:errcheck // what arrives tells
			conn.Close()
		}
	}()
	for name, sudo := range map[string]string{"root": "", "sudo": sudoFree, "sudo with password": sudoWithPassword} {
		t.Run(name, func(t *testing.T) {
			h := dial(t, sshdtest.New(t, sshdtest.Config{Sudo: sudo, NoSockets: true}), ssh.Options{SudoPassword: []byte("hunter 2")})
			for range 8 { // more than may run at once
				conn, err := h.Dial(t.Context(), "unix", socket)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
				conn.Close()
				_, err = h.Dial(t.Context(), "unix", socket+"-none")
				if err == nil || !strings.HasSuffix(err.Error(), "dial unix "+socket+"-none: No such file or directory") {
					t.Errorf("%v", err)
				}
			}
		})
	}
}
