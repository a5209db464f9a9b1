// Package kube talks to the Kubernetes API of a cluster: it reaches the API server through a connection that the caller
// opens (in general through the SSH connection of a control plane), applies objects, keeps bootstrap tokens, and waits.
//
// Reader is the part that changes nothing, and what a phase's Check is given; Client is all of it. Objects are named by a
// Ref and travel as unstructured maps, so that a manifest of the user's and one of myadm's take the same way; Get and
// List give typed ones. Nothing here reads files, the environment or in-cluster settings, and what is read from a
// cluster never runs a program: a kubeconfig with an exec plugin is refused.
package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// FieldManager is the owner of the fields that myadm sets, in every object it applies or creates.
const FieldManager = "myadm"

// DefaultTimeout bounds a single request. The slowest that is sound, a write while etcd elects a leader, ends well before.
const DefaultTimeout = 30 * time.Second

// ErrGone is in the chain of a DialFunc's error when it will never connect any more: what it goes through has ended. A
// request is then not tried again.
var ErrGone = errors.New("no way to the API server is left")

// DialFunc connects to an address. host.Host's Dial is one.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Options of Connect. The zero value is usable.
type Options struct {
	Version string        // of myadm, for the user agent
	Timeout time.Duration // of a single request other than a watch; 0: DefaultTimeout

	// Patience is how long a change is tried again while the API server is away or not ready; 0: DefaultPatience.
	Patience time.Duration

	// ReadFile reads what a kubeconfig names by path, such as /var/lib/kubelet/pki/kubelet-client-current.pem, from the
	// host that the kubeconfig came from. nil: such a kubeconfig is an error.
	ReadFile func(path string) ([]byte, error)
}

// Client is a connection to the API of one cluster. It may be used by several goroutines at once.
type Client struct {
	Typed   kubernetes.Interface
	Dynamic dynamic.Interface

	http     *http.Client
	server   *url.URL
	clock    *clock
	patience time.Duration

	mu     sync.Mutex
	served map[schema.GroupVersionKind]resource // kinds that this cluster was asked for; see resources.go
}

// Connect makes a client from a kubeconfig's content. It sends nothing yet. Connections are made by dial, and by the
// operating system if dial is nil.
func Connect(kubeconfig []byte, dial DialFunc, opts Options) (*Client, error) {
	config, err := restConfig(kubeconfig, opts.ReadFile)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	return connect(config, dial, opts)
}

func connect(config *rest.Config, dial DialFunc, opts Options) (*Client, error) {
	timeout := cmp.Or(opts.Timeout, DefaultTimeout)
	config.UserAgent = "myadm/" + cmp.Or(opts.Version, "unknown")
	config.QPS = -1 // the API server has its own fairness; a client's limiter only slows bursts such as the addons
	config.WarningHandlerWithContext = rest.NoWarnings{}
	config.Dial = dial
	if config.Proxy == nil {
		// Otherwise HTTPS_PROXY of the operator's machine would be dialled through the host.
		config.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	}
	serverClock := new(clock)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return dated{bounded{next, timeout}, serverClock} })

	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: server %q: %w", config.Host, err)
	}
	typed, err := kubernetes.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	dyn, err := dynamic.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	return &Client{
		Typed:    typed,
		Dynamic:  dyn,
		http:     httpClient,
		server:   server,
		clock:    serverClock,
		patience: cmp.Or(opts.Patience, DefaultPatience),
		served:   map[schema.GroupVersionKind]resource{},
	}, nil
}

// Server is the URL of the API server, as the kubeconfig has it.
func (c *Client) Server() string { return c.server.String() }

// Close ends idle connections to the API server.
func (c *Client) Close() { utilnet.CloseIdleConnectionsFor(c.http.Transport) }

// restConfig reads a kubeconfig's current context, with everything that it names by path loaded by readFile.
func restConfig(kubeconfig []byte, readFile func(string) ([]byte, error)) (*rest.Config, error) {
	if readFile == nil {
		readFile = func(path string) ([]byte, error) {
			return nil, fmt.Errorf("it names the file %s, which cannot be reached from here; hint: kubectl config view --flatten", path)
		}
	}
	file, err := clientcmd.Load(kubeconfig)
	if err != nil {
		// The decoder quotes the text around what it stumbles over, and that may be a key.
		return nil, errors.New("not a kubeconfig in YAML or JSON")
	}
	current, ok := file.Contexts[file.CurrentContext]
	if !ok {
		return nil, fmt.Errorf("current-context %q is not among its contexts", file.CurrentContext)
	}
	cluster, user := file.Clusters[current.Cluster], file.AuthInfos[current.AuthInfo]
	if cluster == nil || cluster.Server == "" {
		return nil, fmt.Errorf("context %q: cluster %q has no server", file.CurrentContext, current.Cluster)
	}
	if user == nil {
		user = &clientcmdapi.AuthInfo{} // an anonymous one
	}
	if user.Exec != nil || user.AuthProvider != nil {
		return nil, fmt.Errorf("user %q logs in with a plugin, which myadm does not run; hint: use one with a client certificate",
			current.AuthInfo)
	}
	if err := inline(cluster, user, readFile); err != nil {
		return nil, err
	}
	flat := clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{current.Cluster: cluster},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{current.AuthInfo: user},
		Contexts:       map[string]*clientcmdapi.Context{file.CurrentContext: current},
		CurrentContext: file.CurrentContext,
	}
	return clientcmd.NewDefaultClientConfig(flat, &clientcmd.ConfigOverrides{}).ClientConfig()
}

// inline replaces paths by what the files hold.
func inline(cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo, readFile func(string) ([]byte, error)) error {
	token := []byte(user.Token)
	for _, file := range []struct {
		path *string
		data *[]byte
	}{
		{&cluster.CertificateAuthority, &cluster.CertificateAuthorityData},
		{&user.ClientCertificate, &user.ClientCertificateData},
		{&user.ClientKey, &user.ClientKeyData},
		{&user.TokenFile, &token},
	} {
		if *file.path == "" {
			continue
		}
		if len(*file.data) == 0 {
			data, err := readFile(*file.path)
			if err != nil {
				return fmt.Errorf("read %s: %w", *file.path, err)
			}
			*file.data = data
		}
		*file.path = ""
	}
	user.Token = strings.TrimSpace(string(token))
	return nil
}
