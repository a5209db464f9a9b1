package redact_test

import (
	"strings"
	"testing"

	"github.com/myadm/myadm/redact"
)

const (
	token  = "abcdef.0123456789abcdef"
	secret = "0123456789abcdef"
	key    = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
	pem    = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA\n-----END EC PRIVATE KEY-----"
)

func TestText(t *testing.T) {
	var m redact.Masker
	m.Add("hunter2!", "", "ab", "hunter2!longer")
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "write /etc/kubernetes/pki/ca.crt: no space left on device", "write /etc/kubernetes/pki/ca.crt: no space left on device"},
		{"a bootstrap token", "join --token " + token + " failed", "join --token abcdef.*** failed"},
		{"no token: too long", "abcdefg.0123456789abcdef", "abcdefg.0123456789abcdef"},
		{"a private key", "a " + pem + " b", "a *** b"},
		{"a private key that is cut", "a " + pem[:40], "a ***"},
		{"a private key in JSON", `{"k":"` + strings.ReplaceAll(pem, "\n", `\n`) + `"}`, `{"k":"***"}`},
		{"a certificate", "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----"},
		{"a certificate key", "--certificate-key " + key, "--certificate-key ***"},
		{"a certificate key of a document", `certificateKey: "` + key + `"`, `certificateKey: "***"`},
		{"a checksum", "sha256:" + key, "sha256:" + key},
		{"a bearer", "Authorization: Bearer c2VjcmV0", "Authorization: Bearer ***"},
		{"a bearer of curl", "sending bearer c2VjcmV0LXRva2Vu now", "sending bearer *** now"},
		{"the header in a map", "map[Authorization:[Basic dXNlcjpwYXNz]]", "map[Authorization:[Basic ***]]"},
		{"the header in JSON", `{"Authorization":"Basic dXNlcjpwYXNz","a":1}`, `{"Authorization":"Basic ***","a":1}`},
		{"a service account's token", "token eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2ln ends", "token *** ends"},
		{"a proxy's password", "proxy http://me:pass@proxy:3128 refused", "proxy http://me:***@proxy:3128 refused"},
		{"a URL with a port", "get https://mirror.example:8443/v2/: 404", "get https://mirror.example:8443/v2/: 404"},
		{"a password", "password: geheim, user: me", "password: ***, user: me"},
		{"a password in JSON", `{"password":"geheim"}`, `{"password":"***"}`},
		{"a kubeconfig", "client-key-data: LS0tLS1C", "client-key-data: ***"},
		{"what it was told", "sudo said hunter2!longer and hunter2! ab", "sudo said *** and *** ab"},
		{"a phase of that name", "h1: bootstrap-token: read: no such file", "h1: bootstrap-token: read: no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := m.Text(tt.in)
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if again := m.Text(got); again != got {
				t.Errorf("masked again it is %q", again)
			}
		})
	}
}

// Whatever stands around it, a token of its own and a key do not come through.
func FuzzText(f *testing.F) {
	f.Add("a", "b")
	f.Add("--token=", "\n")
	f.Add("http://u:", "@h")
	f.Add("-----BEGIN PRIVATE KEY-----", "")
	f.Fuzz(func(t *testing.T, before, after string) {
		var m redact.Masker
		m.Add("hunter2!")
		got := m.Text(before + " " + token + " " + pem + " hunter2! " + after)
		for _, s := range []string{secret, "MHcCAQEEIA", "hunter2!"} {
			if strings.Contains(got, s) && !strings.Contains(before+after, s) {
				t.Errorf("%q holds %q", got, s)
			}
		}
	})
}
