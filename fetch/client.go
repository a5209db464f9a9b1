package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/net/http/httpproxy"
)

// maxRedirects is more than any maker needs: GitHub has one, registries have two.
const maxRedirects = 10

var (
	errRedirects = fmt.Errorf("more than %d redirects; hint: the server sends in circles: ask whoever runs it", maxRedirects)
	errPlain     = errors.New("plain http is not spoken; hint: only a mirror whose URL begins with http:// may do without TLS")
)

// setMirror reads a mirror's URL. Credentials in it are kept apart, so that no message can show them.
func (f *Fetcher) setMirror(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil { // its text has the URL, and so maybe a password
		return errors.New("the mirror's URL is malformed; hint: write it as https://HOST[:PORT][/PATH]")
	}
	if u.User != nil {
		password, _ := u.User.Password()
		f.login = &authn.Basic{Username: u.User.Username(), Password: password}
		u.User = nil
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q is not the URL of a mirror; hint: write it as https://HOST[:PORT][/PATH]", mask(u))
	}
	f.mirror = u
	return nil
}

// plain tells whether there may be no TLS.
func (f *Fetcher) plain() bool { return f.mirror != nil && f.mirror.Scheme == "http" }

// address is where a file of a maker is to be asked for: there or at the mirror.
func (f *Fetcher) address(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || f.mirror == nil {
		return u, err
	}
	return f.mirror.JoinPath(u.Host, u.Path), nil
}

// setTransport makes the one transport that everything goes through.
func (f *Fetcher) setTransport(o Options) error {
	var err error
	if f.transport, err = NewTransport(o.Proxy, o.CAFile, f.plain()); err != nil {
		return err
	}
	if _, f.ca, err = authorities(o.CAFile); err != nil {
		return err
	}
	f.files = &http.Client{Transport: fileAuth{f.transport, f}, CheckRedirect: checkRedirect}
	return nil
}

// NewTransport is a way to servers: through a proxy (the zero value: the environment's), trusting the authorities of a PEM
// file (empty: none) besides the system's, and by TLS alone unless plain.
func NewTransport(p Proxy, caFile string, plain bool) (http.RoundTripper, error) {
	proxy, err := proxyFunc(p)
	if err != nil {
		return nil, err
	}
	authorities, _, err := authorities(caFile)
	if err != nil {
		return nil, err
	}
	inner := &http.Transport{
		Proxy:                  func(r *http.Request) (*url.URL, error) { return proxy(r.URL) },
		DialContext:            (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    15 * time.Second,
		IdleConnTimeout:        time.Minute,
		MaxConnsPerHost:        2 * parallel,
		MaxResponseHeaderBytes: 256 << 10,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // a range is one of the file as published
	}
	return guard{inner, plain}, nil
}

// NewUploadTransport is NewTransport for what sends much: each transfer has a connection of its own (HTTP/1.1). On one that
// they share, a server that takes one upload at a time waits for bytes of that one behind those of the others, for ever.
func NewUploadTransport(p Proxy, caFile string, plain bool) (http.RoundTripper, error) {
	t, err := NewTransport(p, caFile, plain)
	if g, ok := t.(guard); ok {
		g.inner.ForceAttemptHTTP2 = false
	}
	return t, err
}

func checkRedirect(_ *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errRedirects
	}
	return nil
}

// guard refuses plain http, also where a redirect or a library would fall back to it.
type guard struct {
	inner *http.Transport
	plain bool
}

// RoundTrip implements http.RoundTripper.
func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.plain {
		return nil, errPlain
	}
	return g.inner.RoundTrip(r)
}

// CloseIdleConnections is what http.Client calls.
func (g guard) CloseIdleConnections() { g.inner.CloseIdleConnections() }

// Untrusted tells whether an error of a NewTransport is about the server's certificate, or that the server has none.
func Untrusted(err error) bool { return untrusted(err) }

// fileAuth gives the mirror, and nobody else, its credentials with requests for files. Makers need none.
type fileAuth struct {
	inner http.RoundTripper
	f     *Fetcher
}

// RoundTrip implements http.RoundTripper.
func (a fileAuth) RoundTrip(r *http.Request) (*http.Response, error) {
	m := a.f.mirror
	if m == nil || r.URL.Host != m.Host || r.URL.Scheme != m.Scheme {
		return a.inner.RoundTrip(r)
	}
	value, err := a.f.mirrorLogin(r.Context())
	if err != nil {
		return nil, err
	}
	if value != "" {
		r = r.Clone(r.Context()) // a RoundTripper leaves its request alone
		r.Header.Set("Authorization", value)
	}
	return a.inner.RoundTrip(r)
}

// mirrorLogin is the header Authorization of requests to the mirror for files; empty: there is none.
func (f *Fetcher) mirrorLogin(ctx context.Context) (string, error) {
	auth, err := f.authFor(registryHost(f.mirror.Host))
	if err != nil {
		return "", err
	}
	known, err := authn.Authorization(ctx, auth)
	if err != nil {
		return "", fmt.Errorf("credentials for %s: %w", f.mirror.Host, err)
	}
	return basic(known), nil
}

// basic is the header Authorization for a user with a password; empty: there is none.
func basic(known *authn.AuthConfig) string {
	switch {
	case known.Username != "" && known.Password != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(known.Username+":"+known.Password))
	case known.Auth != "":
		return "Basic " + known.Auth
	}
	return ""
}

// authFor finds the credentials for a registry or a repository of it: those in the mirror's URL go first.
func (f *Fetcher) authFor(target authn.Resource) (authn.Authenticator, error) {
	if f.login != nil && f.mirror != nil && target.RegistryStr() == f.mirror.Host {
		return f.login, nil
	}
	auth, err := f.keychain.Resolve(target)
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %w; hint: docker login %s writes them anew", target.RegistryStr(), err, target.RegistryStr())
	}
	return auth, nil
}

// registryHost is a server as a keychain knows it.
type registryHost string

// String implements authn.Resource.
func (h registryHost) String() string { return string(h) }

// RegistryStr implements authn.Resource.
func (h registryHost) RegistryStr() string { return string(h) }

// proxyFunc checks what httpproxy would ignore silently: with a proxy that is misspelt, nobody means to go without one.
func proxyFunc(p Proxy) (func(*url.URL) (*url.URL, error), error) {
	conf := httpproxy.FromEnvironment()
	if p != (Proxy{}) {
		conf = &httpproxy.Config{HTTPProxy: p.HTTPProxy, HTTPSProxy: p.HTTPSProxy, NoProxy: p.NoProxy}
	}
	for _, setting := range []struct{ name, value string }{{"HTTP_PROXY", conf.HTTPProxy}, {"HTTPS_PROXY", conf.HTTPSProxy}} {
		if setting.value == "" {
			continue
		}
		value := setting.value
		if !strings.Contains(value, "://") {
			value = "http://" + value
		}
		u, err := url.Parse(value)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" && u.Scheme != "socks5h" {
			return nil, fmt.Errorf("the proxy of %s is malformed; hint: write it as http://HOST:PORT", setting.name)
		}
	}
	return conf.ProxyFunc(), nil
}

// authorities are the system's and those of a file, and the latter as PEM; nil stands for the system's alone.
func authorities(file string) (pool *x509.CertPool, own []byte, err error) {
	if file == "" {
		return nil, nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate authorities: %w", err)
	}
	pool, err = x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(data) {
		return nil, nil, fmt.Errorf("certificate authorities: %s has none; hint: it is a PEM file, with BEGIN CERTIFICATE", file)
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			own = append(own, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
		}
	}
	return pool, own, nil
}

// CA is Options.CAFile for hosts: PEM with its certificates, and nothing else that may be in the file, such as a key. nil:
// there are none.
func (f *Fetcher) CA() []byte { return slices.Clone(f.ca) }
