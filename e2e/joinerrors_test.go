//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myadm/myadm/e2e/lab"
)

// soon is how long a join may take to find out that it cannot work.
const soon = 20 * time.Second

// TestJoinErrors lets a bare host join in all the wrong ways. Each ends soon, says what is wrong and what to do, and
// leaves the host as it was. In the end the host joins after all.
func TestJoinErrors(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 2})
	s.init(t)
	h1, h2 := s.Hosts[0], s.Hosts[1]

	good := s.createToken(t, "--ttl", "1h")
	expired := s.createToken(t, "--ttl", "1s")
	s.waitExpired(t, expired)
	bundle := []string{"--bundle", made.bundle}
	asRoot := slices.Concat(s.reach(t, "h2", lab.UserRoot), bundle)
	// with is the right command but for one argument.
	with := func(wrong, instead string) []string {
		args := good.joinArgs(t)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], wrong, instead)
		}
		return slices.Concat(args, asRoot)
	}
	_, secret, _ := strings.Cut(good.Token, ".")
	pin := good.joinArgs(t)[5]

	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	unknownKey := func(user, knownHosts string, more ...string) []string {
		return slices.Concat(good.joinArgs(t), []string{"--host", user + "@" + h2.Address.String(), "--ssh-key", s.Path(lab.KeyFile), "--known-hosts", knownHosts}, bundle, more)
	}
	none, changed := file("none", ""), file("changed", h2.Address.String()+" "+h1.HostKey+"\n")
	document := string(read(t, s.document))
	pinned := file("pinned.yaml", strings.Replace(document, h2.HostKey, h1.HostKey, 1))
	if strings.Count(string(read(t, pinned)), h1.HostKey) != 2 {
		t.Fatalf("the document does not pin host keys: %s", document)
	}

	tests := []struct {
		name string
		cut  bool // the host's cable
		args []string
		code int
		want []string // on stderr
	}{
		{"wrong secret of the token", false, with(secret, "0123456789abcdef"), 1, []string{"another secret", "hint: `myadm token list`"}},
		{"unknown token", false, with(good.Token, "aaaaaa.0123456789abcdef"), 1, []string{"aaaaaa", "myadm token create", "hint: "}},
		{"expired token", false, with(good.Token, expired.Token), 1, []string{"expired", "myadm token create", "hint: "}},
		{"wrong hash of the CA", false, with(pin, "sha256:"+strings.Repeat("0", 64)), 1, []string{"CA", pin, "hint: "}},
		{"no API at the endpoint", false, with(":6443", ":6444"), 1, []string{h1.Address.String() + ":6444", "hint: "}},
		{"another host's key pinned", false, slices.Concat([]string{"join", "-f", pinned}, bundle), 1, []string{"h2: host key of " + h2.Address.String() + " changed", "pinned", "hint: "}},
		{"changed host key", false, unknownKey(lab.UserRoot, changed), 1, []string{"changed", changed, "hint: "}},
		{"changed host key, with new ones accepted", false, unknownKey(lab.UserRoot, changed, "--accept-new-host-keys"), 1, []string{"changed", changed, "hint: "}},
		{"unknown host key", false, unknownKey(lab.UserRoot, none), 1, []string{"is not known", "hint: compare the fingerprint", "--accept-new-host-keys"}},
		{"unreachable host", true, slices.Concat(good.joinArgs(t), asRoot), 1, []string{h2.Address.String(), "hint: "}},
		{"wrong password for sudo", false, unknownKey(lab.UserSudoWithPwd, s.Path(lab.KnownHosts), "--sudo-password-file", file("password", "wrong\n")), 1,
			[]string{"the password is wrong", "hint: check MYADM_SUDO_PASSWORD"}},
		{"no password for sudo", false, unknownKey(lab.UserSudoWithPwd, s.Path(lab.KnownHosts)), 1, []string{"sudo", "hint: set MYADM_SUDO_PASSWORD"}},
		{"not a host's SSH key", false, slices.Concat(unknownKey(lab.UserRoot, s.Path(lab.KnownHosts)), []string{"--ssh-key", file("key", "no key\n")}), 1, []string{"key", "hint: "}},
	}
	before := s.everything(t, "h2")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.cut {
				must(t, s.Cut(t.Context(), "h2"))
				defer func() { must(t, s.Heal(t.Context(), "h2")) }()
			}
			r := s.myadm(t, nil, tt.args...).want(t, tt.code)
			t.Log(r.stderr)
			for _, want := range tt.want {
				if !strings.Contains(r.stderr, want) {
					t.Errorf("no %q in: %s", want, r)
				}
			}
			if r.stdout != "" || strings.Contains(r.stderr, secret) || strings.Contains(r.stderr, "goroutine") {
				t.Errorf("it says too much: %s", r)
			}
			if r.took > soon {
				t.Errorf("it took %s, want at most %s", r.took, soon)
			}
			if diff := before.difference(s.everything(t, "h2")); diff != "" {
				t.Errorf("files of h2 (-before +after):\n%s", diff)
			}
		})
	}
	s.wantReady(t, "h1")
	if got := string(read(t, none)); got != "" {
		t.Errorf("a key was remembered that nobody accepted: %s", got)
	}

	s.myadm(t, nil, unknownKey(lab.UserRoot, none, "--accept-new-host-keys")...).want(t, 0)
	s.wantReady(t, "h1", "h2")
	if got := string(read(t, none)); !strings.Contains(got, h2.HostKey) || !strings.Contains(got, h2.Address.String()) {
		t.Errorf("the accepted key was not remembered: %q", got)
	}
}
