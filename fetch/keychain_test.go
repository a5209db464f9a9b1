package fetch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
)

// keychainOf is a file in the form of docker's config.json.
func keychainOf(t testing.TB, text string) authn.Keychain {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := KeychainFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeychainFile(t *testing.T) {
	k := keychainOf(t, `{"auths": {"mirror:5000": {"auth": "bWU6c2VjcmV0"}, "https://index.docker.io/v1/": {"auth": "aHViOnB3"}}}`)
	for host, want := range map[registryHost]authn.AuthConfig{
		"mirror:5000":     {Username: "me", Password: "secret"},
		"index.docker.io": {Username: "hub", Password: "pw"},
		"registry.k8s.io": {},
	} {
		auth, err := k.Resolve(host)
		if err != nil {
			t.Fatal(err)
		}
		got, err := auth.Authorization()
		if err != nil || got.Username != want.Username || got.Password != want.Password {
			t.Errorf("%s: %s, %v", host, got.Username, err)
		}
	}
	if _, err := KeychainFile(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there has credentials")
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("auths:"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := KeychainFile(broken); err == nil || !strings.Contains(err.Error(), "; hint: ") {
		t.Errorf("a broken file: %v", err)
	}
}
