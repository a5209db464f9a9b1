package cluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/host"
)

// etcdClient is made once.
type etcdClient struct {
	mu     sync.Mutex
	client *etcd.Client
}

func (e *etcdClient) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != nil {
		e.client.Close()
		e.client = nil
	}
}

// Etcd is the cluster's etcd. A member on a control plane of the document is reached through the connection to that
// control plane, so that its etcd answers whatever the network between the hosts does; any other member through the first
// control plane, where those that are leaving come last. The client is made once, with a certificate of a control plane
// that is read into memory; it is no sign that etcd answers. Without a control plane that has such a certificate, the
// error is ErrNoCluster.
func (c *Cluster) Etcd(ctx context.Context) (*etcd.Client, error) {
	c.etcd.mu.Lock()
	defer c.etcd.mu.Unlock()
	if c.etcd.client != nil {
		return c.etcd.client, nil
	}
	c.mu.Lock()
	nodes := c.stayingFirst()
	c.mu.Unlock()
	through, conf, err := etcdTLS(ctx, nodes)
	if err != nil {
		return nil, err
	}
	opts := etcd.Options{TLS: conf, Dial: etcdDial(nodes, through)}
	if external := c.Config.Spec.Etcd.External; external != nil {
		opts.Endpoints = external.Endpoints
	} else {
		opts.Endpoints = []string{etcdURL(through)} // first: the others may not have joined yet
		for _, n := range nodes {
			if n != through {
				opts.Endpoints = append(opts.Endpoints, etcdURL(n))
			}
		}
	}
	c.etcd.client, err = etcd.Connect(opts)
	return c.etcd.client, err
}

func etcdURL(n *Node) string {
	return "https://" + net.JoinHostPort(n.Spec.AdvertiseAddress, strconv.Itoa(config.EtcdClientPort))
}

// etcdDial dials a member at the host that it runs on, and one on no host of ours through another.
func etcdDial(nodes []*Node, through *Node) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		via := through
		if at, err := netip.ParseAddrPort(address); err == nil {
			i := slices.IndexFunc(nodes, func(n *Node) bool { return n.AdvertiseAddress() == at.Addr() })
			if i >= 0 {
				via = nodes[i]
			}
		}
		return via.Dial(ctx, network, address)
	}
}

// etcdClients are the certificates that etcd lets in, without the suffixes of the file names.
var etcdClients = []string{config.PKIDir + "/etcd/healthcheck-client", config.PKIDir + "/apiserver-etcd-client"}

// etcdTLS reads what a client of etcd needs from the first control plane that has it, and says which one that was.
func etcdTLS(ctx context.Context, nodes []*Node) (*Node, *tls.Config, error) {
	var errs []error
	for _, n := range nodes {
		for _, name := range etcdClients {
			conf, err := readTLS(ctx, n, config.PKIDir+"/etcd/ca.crt", name+".crt", name+".key")
			if err == nil {
				return n, conf, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("%s: %w", n.Name(), err))
			}
		}
	}
	if len(errs) > 0 {
		return nil, nil, errors.Join(errs...)
	}
	return nil, nil, ErrNoCluster
}

func readTLS(ctx context.Context, r host.Reader, caFile, certFile, keyFile string) (*tls.Config, error) {
	var files [3][]byte
	var errs [3]error
	var reading sync.WaitGroup
	for i, path := range []string{caFile, certFile, keyFile} {
		reading.Go(func() {
			if files[i], errs[i] = r.ReadFile(ctx, path); errs[i] != nil {
				errs[i] = fmt.Errorf("read %s: %w", path, errs[i])
			}
		})
	}
	reading.Wait()
	if err := cmp.Or(errs[:]...); err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(files[0]) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	pair, err := tls.X509KeyPair(files[1], files[2])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certFile, err)
	}
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}
