// Package mirror is a web server and an OCI registry that serve what upstream would, for tests without a network: the
// releases of Kubernetes and of what it needs, in the official layouts, and images. It is filled from bundles.
//
//	URL/HOST/PATH                   a file that upstream has at https://HOST/PATH, with the checksum files beside it
//	URL/dl.k8s.io/release/LABEL.txt the newest version that it has, of all and of each minor
//	/v2/PREFIX/REGISTRY/REPOSITORY  an image; PREFIX is URL's path, if it has one
//
// A bundle's programs are packed into upstream's tar files, which is all that is computed: blobs are linked, and what was
// made once stays in the mirror's folder. Whatever is in the registry may be pushed to as well.
//
// It counts what it serves, by path and by client, and can be made to serve it wrongly: see Fault.
package mirror

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options say what a mirror serves, and where. Dir and Bundles are needed.
type Options struct {
	Dir     string   // the mirror's folder; made if missing, and worth keeping
	Bundles []string // folders or tar files; where two have the same file or image, the first one's is served

	Listen string // ADDRESS:PORT, default 127.0.0.1:0
	Prefix string // of all paths, such as mirrors/upstream; default none
	TLSDir string // folder of the CA, made if missing: serve HTTPS with a certificate of it; default plain HTTP

	Username, Password string // basic authentication, if there is a password

	As     map[string][]string // further releases as which a product is served, by the product's name: {"runc": {"v1.4.0"}}
	Labels map[string]string   // versions that labels name instead of the newest: {"stable": "v1.36.3"}

	AdminListen string // ADDRESS:PORT of the admin endpoint, on a loopback address; default none
}

// Mirror is one that serves.
type Mirror struct {
	// URL is what a user gives as the mirror's address, with the prefix.
	URL string
	// AdminURL is that of the admin endpoint, if there is one.
	AdminURL string
	// CAFile has the CA's certificate, if the mirror serves HTTPS.
	CAFile string

	options Options
	files   *files
	images  *images
	faults  faults
	stats   *recorder
	servers []*http.Server
	serving sync.WaitGroup
	stop    sync.Once
	stopped chan struct{}
}

// Start fills a mirror and serves until Close.
func Start(ctx context.Context, o Options) (*Mirror, error) {
	o.Prefix = strings.Trim(o.Prefix, "/")
	if o.Dir == "" || len(o.Bundles) == 0 {
		return nil, errors.New("mirror: a folder and a bundle are needed")
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	m := &Mirror{options: o, stats: newRecorder(), stopped: make(chan struct{})}
	if err := m.fill(ctx); err != nil {
		return nil, err
	}
	if err := m.listen(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// fill makes the tables of what is served.
func (m *Mirror) fill(ctx context.Context) error {
	s, err := openStore(m.options.Dir)
	if err != nil {
		return err
	}
	serve := slices.Clone(products)
	for name, versions := range m.options.As {
		i := slices.IndexFunc(serve, func(p product) bool { return p.name == name })
		if i < 0 {
			return fmt.Errorf("mirror: no product %q; hint: %s", name, strings.Join(productNames(), ", "))
		}
		serve[i].also = versions
	}
	m.files, m.images = &files{blobs: s, all: map[string]file{}}, newImages(s)
	var versions []string
	var all []image
	for _, path := range m.options.Bundles {
		c, err := readBundle(ctx, s, path)
		if err != nil {
			return err
		}
		if err := m.files.addProducts(c.programs, serve); err != nil {
			return err
		}
		versions, all = append(versions, c.kubernetesVersion), append(all, c.images...)
	}
	if err := m.files.addLabels(versions); err != nil {
		return err
	}
	for label, version := range m.options.Labels {
		m.files.setLabel(label, version)
	}
	return m.images.add(all)
}

func productNames() []string {
	var names []string
	for _, p := range products {
		names = append(names, p.name)
	}
	return names
}

// listen starts the servers.
func (m *Mirror) listen(ctx context.Context) error {
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", m.options.Listen)
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	scheme, secure := "http", (*tls.Config)(nil)
	if m.options.TLSDir != "" {
		authority, err := openCA(m.options.TLSDir)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		certificate, err := authority.issue(l.Addr().(*net.TCPAddr).IP)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		scheme, m.CAFile = "https", authority.file
		secure = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	}
	m.URL = scheme + "://" + path.Join(l.Addr().String(), m.options.Prefix)
	m.serve(l, secure, m.stats.record(m.authenticate(http.HandlerFunc(m.answer))))
	if m.options.AdminListen == "" {
		return nil
	}
	l, err = listen.Listen(ctx, "tcp", m.options.AdminListen)
	if err != nil {
		return fmt.Errorf("mirror's admin endpoint: %w", err)
	}
	if !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
		return errors.Join(fmt.Errorf("mirror's admin endpoint: %s is not a loopback address", l.Addr()), l.Close())
	}
	m.AdminURL = "http://" + l.Addr().String()
	m.serve(l, nil, m.admin())
	return nil
}

// serve starts a server: HTTPS, with HTTP/2, if there is a configuration of TLS.
func (m *Mirror) serve(l net.Listener, secure *tls.Config, h http.Handler) {
	server := &http.Server{Handler: h, TLSConfig: secure, ReadHeaderTimeout: time.Minute, ErrorLog: quiet}
	m.servers = append(m.servers, server)
	m.serving.Go(func() { // until Close
		if secure != nil {
			_ = server.ServeTLS(l, "", "")
		} else {
			_ = server.Serve(l)
		}
	})
}

// Close ends all connections, as if the mirror had died.
func (m *Mirror) Close() {
	m.stop.Do(func() { close(m.stopped) })
	for _, server := range m.servers {
		server.Close()
	}
	m.serving.Wait()
}

// Stopped is closed once somebody wants the mirror to end: who called Start calls Close then.
func (m *Mirror) Stopped() <-chan struct{} { return m.stopped }

// Fail switches a fault on. Of several that a request meets the first counts.
func (m *Mirror) Fail(f Fault) error { return m.faults.add(f) }

// Heal switches all faults off.
func (m *Mirror) Heal() { m.faults.clear() }

// Faults are those that are on, each with the Times that are left.
func (m *Mirror) Faults() []Fault { return m.faults.list() }

// Stats is what was served since the start, or since ResetStats.
func (m *Mirror) Stats() Stats { return m.stats.snapshot() }

// ResetStats begins to count anew.
func (m *Mirror) ResetStats() { m.stats.reset() }

// Paths are those of all files, with the mirror's prefix and a slash in front, sorted.
func (m *Mirror) Paths() []string {
	var paths []string
	for name := range m.files.all {
		paths = append(paths, path.Join("/", m.options.Prefix, name))
	}
	slices.Sort(paths)
	return paths
}

// authenticate asks for the password, if there is one.
func (m *Mirror) authenticate(next http.Handler) http.Handler {
	if m.options.Password == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		username, password, _ := r.BasicAuth()
		if username != m.options.Username || subtle.ConstantTimeCompare([]byte(password), []byte(m.options.Password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// answer serves a file or the registry, unless a fault does.
func (m *Mirror) answer(w http.ResponseWriter, r *http.Request) {
	fault := m.faults.match(r.URL.Path, clientOf(r))
	w, answered := fault.intercept(w, r)
	if answered {
		return
	}
	if name, ok := strings.CutPrefix(r.URL.Path, "/v2/"); ok {
		m.images.serve(w, r, strings.TrimPrefix(strings.TrimPrefix(name, m.options.Prefix), "/"), fault)
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, strings.TrimSuffix("/"+m.options.Prefix, "/")+"/")
	if !ok || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
		http.NotFound(w, r)
		return
	}
	m.files.serve(w, r, name, fault)
}
