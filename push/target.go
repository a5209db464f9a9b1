package push

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/myadm/myadm/config"
)

// Target is the folder of a registry that images go to.
type Target struct {
	text     string // REGISTRY[/PREFIX]
	registry name.Registry
	prefix   string
	plain    bool
}

// ParseTarget reads REGISTRY[/PREFIX], where the registry is host or host:port. There is TLS unless http:// stands before it.
func ParseTarget(text string) (Target, error) {
	rest, plain := strings.CutPrefix(text, "http://")
	if !plain {
		rest = strings.TrimPrefix(text, "https://")
	}
	if strings.Contains(rest, "@") { // is not shown
		return Target{}, errors.New("a registry is named without credentials; hint: `docker login` writes them where myadm looks, --registry-config names another file")
	}
	if err := config.CheckImageRepository(rest); err != nil {
		return Target{}, err
	}
	host, prefix, _ := strings.Cut(rest, "/")
	if !strings.ContainsAny(host, ".:") && host != "localhost" {
		return Target{}, fmt.Errorf("%q is no registry: a container runtime takes it for a folder of Docker Hub; hint: write the registry with its domain or port, such as %s:443", text, host)
	}
	var options []name.Option
	if plain {
		options = append(options, name.Insecure)
	}
	registry, err := name.NewRegistry(host, options...)
	if err != nil {
		return Target{}, fmt.Errorf("%q is no registry: %w", text, err)
	}
	return Target{rest, registry, prefix, plain}, nil
}

// Repository is what spec.imageRepository says for a cluster to pull from there.
func (t Target) Repository() string { return t.text }

// maxRedirects is more than registries need, which send on to a store at most.
const maxRedirects = 10

var errRedirects = fmt.Errorf("more than %d redirects; hint: the registry sends in circles: ask whoever runs it", maxRedirects)

// registryTransport undoes two things that the library does: it takes registries on private addresses for ones without TLS,
// and it follows redirects without end.
type registryTransport struct {
	inner    http.RoundTripper
	registry string
	plain    bool
}

// RoundTrip implements http.RoundTripper.
func (t registryTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	redirects := 0
	for before := r.Response; before != nil && before.Request != nil; before = before.Request.Response {
		redirects++
	}
	if redirects > maxRedirects {
		return nil, errRedirects
	}
	if r.URL.Host == t.registry && !t.plain && r.URL.Scheme != "https" {
		r = r.Clone(r.Context()) // a RoundTripper leaves its request alone
		r.URL.Scheme = "https"
	}
	return t.inner.RoundTrip(r)
}
