package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/myadm/myadm/courier/wire"
)

// How long the parts of a request before its content may take.
const (
	connectTimeout = 10 * time.Second
	headerTimeout  = 30 * time.Second
)

// maxRedirects is how many redirects are followed; net/http's own limit is the same.
const maxRedirects = 10

var (
	errRedirect = errors.New("redirect refused")
	errPin      = errors.New("the peer's certificate is not the one that was announced; " +
		"hint: something else listens there, or is in between")
)

// clients are the HTTP clients for sources: one for web servers, and one for each pin.
type clients struct {
	web *http.Client

	mu    sync.Mutex
	peers map[string]*http.Client
}

func newClients(network wire.Net) (*clients, error) {
	roots, err := x509.SystemCertPool()
	if err != nil { // a host without any
		roots = x509.NewCertPool()
	}
	if network.CA != "" && !roots.AppendCertsFromPEM([]byte(network.CA)) {
		return nil, errors.New("the CA that was given has no certificate in PEM")
	}
	if err := useProxy(network.Proxy); err != nil {
		return nil, err
	}
	transport := newTransport()
	transport.Proxy = http.ProxyFromEnvironment
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return &clients{web: &http.Client{Transport: transport, CheckRedirect: follow}, peers: map[string]*http.Client{}}, nil
}

// newTransport speaks HTTP/1.1: several downloads are then several connections, which share a long way better than one.
func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSHandshakeTimeout:   connectTimeout,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       headerTimeout,
		MaxIdleConnsPerHost:   8,
		DisableCompression:    true, // the sum is of the bytes as they are stored
	}
}

// useProxy hands the proxy to net/http in the program's own variables, the one way to its rules for NO_PROXY. What is set
// here is not in /proc/PID/environ.
func useProxy(p wire.Proxy) error {
	for _, v := range []struct{ name, value string }{
		{"HTTP_PROXY", p.HTTP}, {"HTTPS_PROXY", p.HTTPS}, {"NO_PROXY", p.No},
		{"REQUEST_METHOD", ""}, // with one, net/http takes itself for a CGI program and refuses HTTP_PROXY
	} {
		if err := errors.Join(os.Setenv(v.name, v.value), os.Unsetenv(strings.ToLower(v.name))); err != nil {
			return fmt.Errorf("proxy: %w", err)
		}
	}
	return nil
}

// of returns the client for a source.
func (c *clients) of(s wire.Source) *http.Client {
	if s.Pin == "" {
		return c.web
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peers[s.Pin] == nil {
		transport := newTransport()
		transport.TLSClientConfig = &tls.Config{
			MinVersion:         tls.VersionTLS13,
			InsecureSkipVerify: true, // the pin tells more than names and dates
			VerifyConnection: func(state tls.ConnectionState) error {
				sum := sha256.Sum256(state.PeerCertificates[0].Raw)
				if hex.EncodeToString(sum[:]) != s.Pin {
					return errPin
				}
				return nil
			},
		}
		c.peers[s.Pin] = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return fmt.Errorf("%w: a peer does not redirect", errRedirect)
		}}
	}
	return c.peers[s.Pin]
}

// do makes a request with the source's headers.
func (c *clients) do(ctx context.Context, method string, s wire.Source, more http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.URL, nil)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	for name, value := range s.Headers {
		req.Header.Set(name, value)
	}
	for name := range more {
		req.Header.Set(name, more.Get(name))
	}
	req.Header["User-Agent"] = []string{"myadm-courier"}
	resp, err := c.of(s).Do(req)
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// follow follows a redirect, at most maxRedirects of them and never out of TLS. Another host gets none of the headers that
// were given for the source, whatever their names: net/http keeps back those alone that it knows.
func follow(req *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("%w: more than %d; hint: the server may redirect in a circle", errRedirect, maxRedirects)
	case first.URL.Scheme == "https" && req.URL.Scheme != "https":
		return fmt.Errorf("%w: it leaves TLS", errRedirect)
	case req.URL.Host == first.URL.Host && req.URL.Scheme == first.URL.Scheme:
		return nil
	}
	for name := range req.Header {
		switch name {
		case "Range", "If-Range", "User-Agent":
		default:
			req.Header.Del(name)
		}
	}
	return nil
}
