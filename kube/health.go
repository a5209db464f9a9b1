package kube

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// HealthError is a health endpoint that answered, and not with ok.
type HealthError struct {
	Path    string
	Status  int      // of HTTP
	Failing []string // the checks that fail, as the API server names them: "etcd", "poststarthook/rbac/bootstrap-roles"
}

func (e *HealthError) Error() string {
	if len(e.Failing) == 0 {
		return fmt.Sprintf("%s answers %d %s", e.Path, e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("%s: not ok yet: %s", e.Path, strings.Join(e.Failing, ", "))
}

// Health implements Reader.
func (c *Client) Health(ctx context.Context, path string) error {
	u := *c.server
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	return health(ctx, c.http, u.String())
}

// maxHealth bounds what is read of a health answer: some 40 lines of a check each.
const maxHealth = 64 << 10

func health(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHealth))
	if err != nil {
		return fmt.Errorf("read %s: %w", url, err)
	}
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &HealthError{Path: req.URL.Path, Status: resp.StatusCode, Failing: failing(body)}
}

// failing reads the lines "[-]NAME failed: reason withheld" of a health answer.
func failing(body []byte) []string {
	var names []string
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, "[-]"); ok {
			name, _, _ := strings.Cut(rest, " failed")
			names = append(names, strings.TrimSpace(name))
		}
	}
	slices.Sort(names)
	return names
}

// Probe is a health endpoint of any component: https://127.0.0.1:6443/readyz, http://127.0.0.1:10248/healthz.
type Probe struct {
	URL  string
	TLS  *tls.Config // for https; the CA to trust, and a client certificate if one is needed
	Dial DialFunc    // in general of the host; nil: from here
}

const (
	probePause   = 100 * time.Millisecond // health cannot be watched, and each pause is a part of how long init takes
	probeTimeout = 3 * time.Second        // of one attempt: a component that hangs while it starts is asked anew
)

func (p Probe) client() (*http.Client, *http.Transport) {
	transport := &http.Transport{DialContext: p.Dial, TLSClientConfig: p.TLS, ForceAttemptHTTP2: true}
	return &http.Client{Transport: transport, Timeout: probeTimeout}, transport
}

// Healthy asks once. Its error says what is wrong.
func Healthy(ctx context.Context, probe Probe) error {
	client, transport := probe.client()
	defer transport.CloseIdleConnections()
	return health(ctx, client, probe.URL)
}

// WaitHealthy asks until the answer is 200, or ctx ends. The *WaitError then says what was wrong the last time.
func WaitHealthy(ctx context.Context, probe Probe) error {
	client, transport := probe.client()
	defer transport.CloseIdleConnections()
	ticker := time.NewTicker(probePause)
	defer ticker.Stop()
	var last error
	for {
		err := health(ctx, client, probe.URL)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return &WaitError{Waiting: []string{fmt.Sprintf("%s is not healthy: %v", probe.URL, last)}, Cause: context.Cause(ctx)}
		}
	}
}
