package join

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/kube"
)

// DiscoverOptions say where a cluster is, and by what to know it.
type DiscoverOptions struct {
	Endpoint     string        // host:port of the API
	Token        kube.Token    // signs what is found
	CACertHashes []string      // pins: sha256: and the hex SHA-256 of a CA's public key (SubjectPublicKeyInfo)
	SkipCAPin    bool          // without pins, trust whoever holds the token
	Dial         kube.DialFunc // in general of the host that is to join; nil: from here
}

// ClusterInfo is what discovery finds, and can be trusted.
type ClusterInfo struct {
	Server string // URL of the API, as the cluster names it
	CA     []byte // PEM; several certificates while the CA is rotated
}

// TokenUnknownError is a cluster that does not sign for the token.
type TokenUnknownError struct{ ID string }

func (e *TokenUnknownError) Error() string {
	return fmt.Sprintf("token %s is not known to the cluster, or has expired; hint: `myadm token create --print-join-command` on a control plane makes one", e.ID)
}

// TokenMismatchError is a token of a right ID and a wrong secret, or somebody who only pretends to be the cluster.
type TokenMismatchError struct{ ID string }

func (e *TokenMismatchError) Error() string {
	return fmt.Sprintf("the cluster knows token %s, but with another secret; hint: `myadm token list` on a control plane shows it, and if the two agree somebody else answers at this address", e.ID)
}

// CAPinError is a cluster whose CA is none of the expected ones.
type CAPinError struct{ Found, Expected []string }

func (e *CAPinError) Error() string {
	return fmt.Sprintf("the cluster's CA is %s, expected was %s; hint: this may be another cluster, or somebody in between. `myadm token create --print-join-command` on a control plane prints the right hash",
		strings.Join(e.Found, ", "), strings.Join(e.Expected, ", "))
}

const (
	// The controller that signs cluster-info takes about a second to see a new token, and more than five on a busy control
	// plane that was made a moment ago, whose init has just printed the token. Beyond that, waiting hides a typo.
	signingPatience = 12 * time.Second
	// An endpoint that gives no answer at all is given up after its first attempt, which takes as long.
	answerPatience = 5 * time.Second
	connectTimeout = 5 * time.Second
	requestTimeout = 10 * time.Second
	discoveryPause = 200 * time.Millisecond // an anonymous client may get cluster-info, but not watch it
)

// Discover finds out where a cluster's API is and what CA to trust, given a token and pins of the CA. It sends no secret.
//
// First the ConfigMap kube-public/cluster-info is read from whoever answers. Its signature by the token proves that
// somebody who has the token wrote it; that may be anybody whom the token leaked to, hence the pins. Then it is read once
// more, from a server that proves itself by a pinned CA, and must be the same. Of several CAs only those with a pin are
// trusted to prove it: otherwise a thief of the token could offer the real CA beside one of their own.
func Discover(ctx context.Context, opts DiscoverOptions) (*ClusterInfo, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	// Not verified yet: nothing is believed that the token has not signed.
	found, err := opts.signedInfo(ctx, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, err
	}
	roots, err := opts.trusted(found.CA)
	if err != nil {
		return nil, err
	}
	again, err := opts.signedInfo(ctx, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, err
	}
	if again.Server != found.Server || string(again.CA) != string(found.CA) {
		return nil, fmt.Errorf("%s names another cluster when it is asked again over a verified connection; hint: somebody in between, or several clusters behind one address", opts.Endpoint)
	}
	return found, nil
}

// TokenClient is the API as a bearer of the token may use it, which is to read what a new node needs.
func TokenClient(info *ClusterInfo, token kube.Token, dial kube.DialFunc, opts kube.Options) (*kube.Client, error) {
	kubeconfig, err := certs.BootstrapKubeconfig(info.Server, info.CA, token.Reveal())
	if err != nil {
		return nil, err
	}
	return kube.Connect(kubeconfig, dial, opts)
}

func (o DiscoverOptions) validate() error {
	var errs []error
	if host, port, err := net.SplitHostPort(o.Endpoint); err != nil || host == "" || port == "" {
		errs = append(errs, fmt.Errorf("endpoint %q is not host:port; hint: 10.0.0.1:6443", o.Endpoint))
	}
	if _, err := kube.ParseToken(o.Token.Reveal()); err != nil {
		errs = append(errs, errors.New("discovery needs a token"))
	}
	if len(o.CACertHashes) == 0 && !o.SkipCAPin {
		errs = append(errs, errors.New("there is no hash of the cluster's CA to know it by; hint: --discovery-token-ca-cert-hash, as `myadm token create --print-join-command` prints it"))
	}
	for _, pin := range o.CACertHashes {
		digits, ok := strings.CutPrefix(pin, pinPrefix)
		if sum, err := hex.DecodeString(digits); !ok || err != nil || len(sum) != 32 {
			errs = append(errs, fmt.Errorf("CA hash %q is not sha256: and 64 hex digits", pin))
		}
	}
	return errors.Join(errs...)
}

const pinPrefix = "sha256:"

// trusted are the found CAs that have a pin; all of them without pins.
func (o DiscoverOptions) trusted(caPEM []byte) (*x509.CertPool, error) {
	cas, err := certs.ParseCertificates(caPEM)
	if err != nil {
		return nil, fmt.Errorf("the CA in cluster-info: %w", err)
	}
	pins, err := certs.PublicKeyPins(caPEM)
	if err != nil {
		return nil, fmt.Errorf("the CA in cluster-info: %w", err)
	}
	pool, matches := x509.NewCertPool(), 0
	for i, ca := range cas {
		pinned := slices.ContainsFunc(o.CACertHashes, func(pin string) bool { return strings.EqualFold(pin, pins[i]) })
		if pinned || len(o.CACertHashes) == 0 {
			pool.AddCert(ca)
			matches++
		}
	}
	if matches == 0 {
		return nil, &CAPinError{Found: pins, Expected: o.CACertHashes}
	}
	return pool, nil
}

// signedInfo reads cluster-info until it is there and signed for the token, or patience ends.
func (o DiscoverOptions) signedInfo(ctx context.Context, trust *tls.Config) (*ClusterInfo, error) {
	transport := &http.Transport{TLSClientConfig: trust, DialContext: o.dial, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: requestTimeout}
	start := time.Now()
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	for {
		body, err := o.fetch(ctx, client)
		if err == nil {
			var info *ClusterInfo
			if info, err = readClusterInfo(body, o.Token); err == nil {
				return info, nil
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if time.Since(start) >= patience(err) {
			return nil, err
		}
		pause.Reset(discoveryPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w; before that: %w", ctx.Err(), err)
		}
	}
}

func (o DiscoverOptions) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, fmt.Errorf("no connection within %s", connectTimeout))
	defer cancel()
	dial := o.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, network, address)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return conn, err
}

// notReady is a cluster that may well answer properly a moment later.
type notReady struct{ error }

func (e notReady) Unwrap() error { return e.error }

// patience is how long another attempt may help; 0: none does.
func patience(err error) time.Duration {
	var unknown *TokenUnknownError
	var early notReady
	switch {
	case errors.As(err, &unknown):
		return signingPatience
	case errors.As(err, &early):
		return answerPatience
	}
	return 0
}

// maxClusterInfo bounds what is read from a server that nobody has vouched for. The API server's own limit for an
// object is 1.5 MiB; a cluster-info has a few KiB.
const maxClusterInfo = 1 << 20

const clusterInfoPath = "/api/v1/namespaces/kube-public/configmaps/cluster-info"

func (o DiscoverOptions) fetch(ctx context.Context, client *http.Client) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+o.Endpoint+clusterInfoPath, nil)
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", o.Endpoint, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, o.unreachable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxClusterInfo+1))
	if err != nil {
		return nil, o.unreachable(err)
	}
	if len(body) > maxClusterInfo {
		return nil, fmt.Errorf("%s answers with more than %d bytes; hint: this is no Kubernetes API", o.Endpoint, maxClusterInfo)
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return body, nil
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return nil, notReady{fmt.Errorf("%s does not let a stranger read its cluster-info (%s); hint: anonymous-auth has to be on, with the RoleBinding kube-public/kubeadm:bootstrap-signer-clusterinfo", o.Endpoint, resp.Status)}
	case resp.StatusCode == http.StatusNotFound:
		return nil, notReady{fmt.Errorf("%s has no ConfigMap kube-public/cluster-info; hint: the phase bootstrap-token of init makes it", o.Endpoint)}
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests:
		return nil, notReady{fmt.Errorf("%s answers %s", o.Endpoint, resp.Status)}
	}
	return nil, fmt.Errorf("%s answers %s; hint: this is no Kubernetes API", o.Endpoint, resp.Status)
}

// unreachable explains a request that got no answer. What a certificate or a protocol says is for good; a refused
// connection may be a load balancer or an API server that is a moment late.
func (o DiscoverOptions) unreachable(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err // its text is the method and the URL, which the messages below say better
	}
	var verify *tls.CertificateVerificationError
	var name x509.HostnameError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &name):
		return fmt.Errorf("the certificate of the API does not name this endpoint: %w; hint: join by a name that it has, or add this one to certificates.apiServerSANs", name)
	case errors.As(err, &verify):
		return fmt.Errorf("the certificate at %s is not of the cluster's CA: %w; hint: somebody in between, or a load balancer that ends TLS itself", o.Endpoint, verify.Err)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%s does not speak TLS; hint: the endpoint is the API server's secure port, in general 6443", o.Endpoint)
	}
	return notReady{fmt.Errorf("cannot reach the API at %s: %w; hint: is the address right, and open from this host?", o.Endpoint, err)}
}
