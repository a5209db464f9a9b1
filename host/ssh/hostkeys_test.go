package ssh_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cryptossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/host/ssh"
	"github.com/myadm/myadm/host/ssh/sshdtest"
)

func ecdsaKey(t *testing.T) cryptossh.Signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cryptossh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func knownLine(s *sshdtest.Server, key cryptossh.Signer) string {
	return knownhosts.Line([]string{knownhosts.Normalize(s.Addr)}, key.PublicKey())
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHostKeys(t *testing.T) {
	ed, ec, other := sshdtest.NewKey(t), ecdsaKey(t), sshdtest.NewKey(t)
	both := sshdtest.New(t, sshdtest.Config{HostKeys: []cryptossh.Signer{ed, ec}})
	onlyEC := sshdtest.New(t, sshdtest.Config{HostKeys: []cryptossh.Signer{ec}})
	authorized := func(key cryptossh.Signer) string { return string(cryptossh.MarshalAuthorizedKey(key.PublicKey())) }

	var unknown *ssh.HostKeyUnknownError
	var changed *ssh.HostKeyChangedError
	tests := []struct {
		name   string
		server *sshdtest.Server
		known  []cryptossh.Signer
		before string // lines before the known ones
		pin    string
		accept bool
		want   any    // the type of the error; nil: none
		says   string // in the error
	}{
		{name: "known", server: both, known: []cryptossh.Signer{ed}},
		{name: "known by its second key", server: both, known: []cryptossh.Signer{ec}},
		{name: "known by an old key and the present one", server: both, known: []cryptossh.Signer{other, ed}},
		{name: "unknown", server: onlyEC, want: &unknown, says: cryptossh.FingerprintSHA256(ec.PublicKey())},
		{name: "unknown has a hint", server: both, want: &unknown, says: fmt.Sprintf("ssh-keyscan -p %d 127.0.0.1", both.Port())},
		{name: "changed", server: both, known: []cryptossh.Signer{other}, before: "# a comment\n", want: &changed, says: "known_hosts:2"},
		{name: "changed, and new keys are accepted", server: both, known: []cryptossh.Signer{other}, accept: true, want: &changed, says: "known_hosts:1"},
		{name: "has no key of the known type any more", server: onlyEC, known: []cryptossh.Signer{ed}, want: &changed, says: "known_hosts:1"},
		{name: "the same, and new keys are accepted", server: onlyEC, known: []cryptossh.Signer{ed}, accept: true, want: &changed, says: "known_hosts:1"},
		{name: "revoked", server: onlyEC, before: "@revoked * " + authorized(ec), accept: true, want: &changed, says: "revoked"},
		{name: "pinned", server: both, pin: authorized(ed)},
		{name: "pinned second key", server: both, pin: authorized(ec)},
		{name: "pinned key wins over known hosts", server: both, known: []cryptossh.Signer{other}, pin: authorized(ed)},
		{name: "another key is pinned", server: both, known: []cryptossh.Signer{ed}, pin: authorized(other), accept: true, want: &changed, says: "pinned"},
		{name: "pinned key of a type it has not", server: onlyEC, pin: authorized(ed), want: &changed, says: "pinned"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			content := tt.before
			for _, key := range tt.known {
				content += knownLine(tt.server, key) + "\n"
			}
			file := writeFile(t, "known_hosts", content)
			to := target(tt.server)
			to.HostKey = tt.pin
			h, err := ssh.Dial(t.Context(), to, isolated(ssh.Options{
				KnownHostsFiles: []string{file}, AcceptNewHostKeys: tt.accept, RetryFor: 20 * time.Second,
			}))
			if err == nil {
				h.Close()
			}
			if (tt.want == nil) != (err == nil) || err != nil && (!errors.As(err, tt.want) || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("error %v", err)
			}
			if after, _ := os.ReadFile(file); string(after) != content {
				t.Errorf("known hosts were changed to %s", after)
			}
		})
	}
}

// TestAcceptNewHostKeys has many hosts add their keys at once to a file whose last line was cut off.
func TestAcceptNewHostKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new folder", "known_hosts")
	dialer := ssh.NewDialer(isolated(ssh.Options{KnownHostsFiles: []string{file}, AcceptNewHostKeys: true}))
	servers := make([]*sshdtest.Server, 8)
	for i := range servers {
		servers[i] = sshdtest.New(t, sshdtest.Config{})
	}
	connect := func(d *ssh.Dialer, servers []*sshdtest.Server) {
		t.Helper()
		var all errgroup.Group
		for _, s := range servers {
			all.Go(func() error {
				to := target(s)
				to.HostKey = ""
				h, err := d.Dial(t.Context(), to)
				if err == nil {
					h.Close()
				}
				return err
			})
		}
		if err := all.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	connect(dialer, servers[:1])
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content[:len(content)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	connect(dialer, servers)
	content, err = os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(string(content)), "\n"); len(lines) != len(servers) {
		t.Errorf("%d lines for %d hosts:\n%s", len(lines), len(servers), content)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	connect(ssh.NewDialer(isolated(ssh.Options{KnownHostsFiles: []string{file}})), servers)
}
