package fetch

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myadm/myadm/bundle"
)

// tokens is a registry with a token server, for one user or for everybody. Files want the password itself.
type tokens struct {
	*world
	user, password string // empty: everybody gets tokens, and files
	life           int    // seconds; 0: it is not told

	mu    sync.Mutex
	given map[string]string // repository by token
}

// ServeHTTP implements http.Handler.
func (k *tokens) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	known := k.user == "" || user == k.user && password == k.password
	switch {
	case r.URL.Path == "/token" && known:
		repository := strings.TrimSuffix(strings.TrimPrefix(r.FormValue("scope"), "repository:"), ":pull")
		k.mu.Lock()
		token := fmt.Sprintf("token%d", len(k.given))
		k.given[token] = repository
		k.mu.Unlock()
		if k.life == 0 {
			fmt.Fprintf(out, `{"access_token": %q}`, token)
			return
		}
		fmt.Fprintf(out, `{"token": %q, "expires_in": %d}`, token, k.life)
	case strings.HasPrefix(r.URL.Path, "/v2/"):
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		k.mu.Lock()
		repository, ok := k.given[token]
		k.mu.Unlock()
		if !ok || r.URL.Path != "/v2/" && !strings.HasPrefix(r.URL.Path, "/v2/"+repository+"/") {
			out.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="`+r.Host+`"`)
			http.Error(out, "who are you?", http.StatusUnauthorized)
			return
		}
		if strings.Contains(r.URL.Path, "/manifests/") && !strings.Contains(r.Header.Get("Accept"), v1Manifest) {
			http.Error(out, "in no form that you take", http.StatusNotFound) // as registries do
			return
		}
		k.world.ServeHTTP(out, r)
	case !known:
		out.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
		http.Error(out, "who are you?", http.StatusUnauthorized)
	default:
		k.world.ServeHTTP(out, r)
	}
}

// count is how many tokens there are.
func (k *tokens) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.given)
}

// TestTokens: a host gets a token for each repository, which is used again while it is young, and none of the operator's
// password where a token does.
func TestTokens(t *testing.T) {
	for name, k := range map[string]*tokens{
		"for everybody":      {life: 300},
		"for one":            {user: "me", password: "s3cret", life: 300},
		"of an untold life":  {user: "me", password: "s3cret"},
		"with an empty user": {user: "", life: 60},
	} {
		t.Run(name, func(t *testing.T) {
			k.world, k.given = newWorld(t), map[string]string{}
			k.pushImages(t, items(t))
			mirror := serve(t, k)
			u, err := url.Parse(mirror)
			if err != nil {
				t.Fatal(err)
			}
			if k.user != "" {
				u.User = url.UserPassword(k.user, k.password)
			}
			f := open(t, Options{Mirror: u.String()})
			now := time.Now()
			f.now = func() time.Time { return now }
			l := locate(t, f)
			checkSources(t, l, http.DefaultClient)

			before := k.count()
			sources := sourcesOf(t, l)
			life := time.Duration(k.life) * time.Second
			if k.life == 0 {
				life = time.Minute
			}
			repositories := map[string]bool{}
			for _, b := range bundle.Blobs(l.Bundle.Index.Artifacts) {
				s := sources[b.SHA256]
				authorization := s.Headers["Authorization"]
				if strings.Contains(s.URL, "s3cret") {
					t.Errorf("a password is in %s", s.URL)
				}
				if path, isImage := strings.CutPrefix(s.URL, mirror+"/v2/"); isImage {
					if !strings.HasPrefix(authorization, "Bearer ") || !s.Expires.Equal(now.Add(life)) {
						t.Errorf("%s wants %v until %v", s.URL, s.Headers, s.Expires)
					}
					repository, _, _ := strings.Cut(strings.Replace(path, "/manifests/", "/blobs/", 1), "/blobs/")
					repositories[repository] = true
					continue
				}
				want := ""
				if k.user != "" {
					want = "Basic " + base64.StdEncoding.EncodeToString([]byte("me:s3cret"))
				}
				if authorization != want || !s.Expires.IsZero() {
					t.Errorf("%s wants %v until %v", s.URL, s.Headers, s.Expires)
				}
			}
			if k.count() != before || before == 0 {
				t.Errorf("%d tokens, then %d", before, k.count())
			}
			now = now.Add(life / 2)
			checkSources(t, l, http.DefaultClient)
			if n := k.count() - before; n != len(repositories) {
				t.Errorf("%d tokens more for %d repositories", n, len(repositories))
			}
		})
	}
}

// TestSourcesWithCredentials: where the registry wants a password, so does each blob; without a right one Sources fails
// only where a token is needed, and no error shows what was tried.
func TestSourcesWithCredentials(t *testing.T) {
	w := newWorld(t)
	w.pushImages(t, items(t))
	mirror := serve(t, http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "s3cret" {
			out.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
			http.Error(out, "who are you?", http.StatusUnauthorized)
			return
		}
		w.ServeHTTP(out, r)
	}))
	host := strings.TrimPrefix(mirror, "http://")
	file := `{"auths": {"` + host + `": {"auth": "` + base64.StdEncoding.EncodeToString([]byte("me:s3cret")) + `"}}}`
	f := open(t, Options{Mirror: mirror, Keychain: keychainOf(t, file)})
	checkSources(t, locate(t, f), http.DefaultClient)

	k := &tokens{world: w, user: "me", password: "s3cret", life: 60, given: map[string]string{}}
	dir := t.TempDir()
	mirror = serve(t, k)
	host = strings.TrimPrefix(mirror, "http://")
	right := open(t, Options{Mirror: "http://me:s3cret@" + host, CacheDir: dir})
	locate(t, right)
	wrong := open(t, Options{Mirror: "http://me:wr0ng@" + host, CacheDir: dir})
	_, err := locate(t, wrong).Sources(t.Context()) // of what it is, the cache knows everything
	wantError(t, err, "fetch ", "401", "; hint: the mirror "+host+" wants other credentials")
	if err != nil && strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("a password is shown: %v", err)
	}
}

// TestCA: of the file with authorities hosts get the certificates, and no key that is in there as well.
func TestCA(t *testing.T) {
	_, caFile := serveTLS(t, http.NotFoundHandler())
	certificate, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})
	both := filepath.Join(t.TempDir(), "both.pem")
	if err := os.WriteFile(both, fmt.Appendf(nil, "# mine\n%s%s%s", certificate, key, certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := string(open(t, Options{CAFile: both}).CA()), strings.Repeat(string(certificate), 2); got != want {
		t.Errorf("hosts get %s", got)
	}
	if got := open(t, Options{}).CA(); got != nil {
		t.Errorf("hosts get %s", got)
	}
}
