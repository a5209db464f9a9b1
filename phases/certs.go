package phases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// PKI gives the files that all control planes share: the authorities with their keys, and the key of service accounts.
// They are in memory only.
type PKI func(ctx context.Context) (certs.Files, error)

// SharedPKI is the PKI of a control plane of the cluster, read once.
func SharedPKI(c *cluster.Cluster, from *cluster.Node) PKI {
	var mu sync.Mutex
	var shared certs.Files
	paths := certs.SharedPaths(c.Config.Spec.Etcd.External != nil)
	return func(ctx context.Context) (certs.Files, error) {
		mu.Lock()
		defer mu.Unlock()
		if shared != nil {
			return shared, nil
		}
		files, err := ReadFiles(ctx, from, paths)
		if err != nil {
			return nil, fmt.Errorf("read the PKI of %s: %w", from.Name(), err)
		}
		if len(files) == len(paths) { // else it is still to be made
			shared = files
		}
		return files, nil
	}
}

// Certs makes the PKI of the first control plane: what is missing or does not serve, and nothing else.
func Certs(c *cluster.Cluster, n *cluster.Node) workflow.Phase {
	return pki(c, []*cluster.Node{n}, nil, "certs", "make the certificates and keys", isNoKubeconfig)
}

// JoinCerts gives control planes what all of them share, and makes certificates of their own.
func JoinCerts(c *cluster.Cluster, nodes []*cluster.Node, shared PKI) workflow.Phase {
	return pki(c, nodes, shared, "certs", "make the certificates and keys", isNoKubeconfig)
}

// Kubeconfigs makes the kubeconfigs of the first control plane, and the kubelet's first client certificate.
func Kubeconfigs(c *cluster.Cluster, n *cluster.Node) workflow.Phase {
	return pki(c, []*cluster.Node{n}, nil, "kubeconfigs", "make the kubeconfigs", isKubeconfig)
}

// JoinKubeconfigs makes the kubeconfigs of control planes that join, but for the kubelet's: that one comes with the
// kubelet's credentials, as on a worker.
func JoinKubeconfigs(c *cluster.Cluster, nodes []*cluster.Node, shared PKI) workflow.Phase {
	return pki(c, nodes, shared, "kubeconfigs", "make the kubeconfigs", func(path string) bool {
		return isKubeconfig(path) && path != config.KubeletConf && path != config.KubeletClientCert
	})
}

func isKubeconfig(path string) bool {
	return path == config.KubeletClientCert || slices.Contains(certs.KubeconfigPaths(), path)
}

func isNoKubeconfig(path string) bool { return !isKubeconfig(path) }

// pki is a phase over those files of package certs that mine selects. Keys are made in memory and leave it only for the
// host that they belong to. Without shared files, the node is the one that makes them.
func pki(c *cluster.Cluster, nodes []*cluster.Node, shared PKI, name, short string, mine func(path string) bool) workflow.Phase {
	return workflow.Phase{
		Name:  name,
		Short: short,
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			return diffPKI(ctx, c, r, shared, mine)
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			stages, err := makePKI(ctx, c, h, shared, mine, changes)
			if err != nil {
				return err
			}
			for _, files := range stages {
				if err := h.WriteFiles(ctx, files...); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func diffPKI(ctx context.Context, c *cluster.Cluster, r host.Reader, shared PKI, mine func(path string) bool) ([]workflow.Change, error) {
	var have, given certs.Files
	var open []workflow.Change
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		have, given, err = readPKI(ctx, r, shared)
		return err
	})
	g.Go(func() (err error) {
		open, err = openModes(ctx, r, mine)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var changes []workflow.Change
	for _, path := range slices.Sorted(maps.Keys(given)) {
		if mine(path) {
			changes = append(changes, workflow.Change{Action: workflow.Create, Object: path, Detail: "as on the other control planes"})
		}
	}
	if shared != nil && !complete(c, have) {
		return append(changes, workflow.Change{Action: workflow.Create, Object: config.PKIDir, Detail: "once the first control plane has its PKI"}), nil
	}
	findings, err := certs.Check(have, CertSettings(c, c.Node(r), shared == nil), c.Now())
	if err != nil {
		return nil, err
	}
	for _, f := range findings {
		for _, path := range f.Paths {
			if mine(path) {
				changes = append(changes, workflow.Change{Action: action(have, path), Object: path, Detail: f.Reason})
			}
		}
	}
	return append(changes, open...), nil
}

// makePKI makes the files that the changes name, in stages: a run that is stopped between two of them goes on with what is
// there.
func makePKI(ctx context.Context, c *cluster.Cluster, r host.Reader, shared PKI, mine func(path string) bool, changes []workflow.Change) ([][]host.File, error) {
	have, given, err := readPKI(ctx, r, shared)
	if err != nil {
		return nil, err
	}
	if shared != nil && !complete(c, have) {
		return nil, errors.New("the first control plane has no PKI yet that others could share; hint: run myadm init first")
	}
	made, err := certs.Issue(have, CertSettings(c, c.Node(r), shared == nil), c.Now())
	if err != nil {
		return nil, err
	}
	for _, path := range slices.Sorted(maps.Keys(given)) {
		made = append(made, certs.File{Path: path, Mode: pkiMode(path), Data: given[path]})
	}
	made = slices.DeleteFunc(made, func(f certs.File) bool { return !mine(f.Path) })
	var stages [][]host.File
	for _, stage := range certs.Stages(made) {
		files := make([]host.File, len(stage))
		for i, f := range stage {
			files[i] = host.File(f)
			delete(have, f.Path)
		}
		stages = append(stages, files)
	}
	return append(stages, closed(have, changes)), nil
}

// readPKI reads a host's files and lays over them what is shared and missing there, which is given as well.
func readPKI(ctx context.Context, r host.Reader, shared PKI) (have, given certs.Files, err error) {
	have, err = ReadFiles(ctx, r, certs.Paths())
	if err != nil || shared == nil {
		return have, nil, err
	}
	all, err := shared(ctx)
	if err != nil {
		return nil, nil, err
	}
	given = certs.Files{}
	for path, data := range all {
		old, exists := have[path]
		switch {
		case !exists:
			have[path], given[path] = data, data
		case !bytes.Equal(bytes.TrimSpace(old), bytes.TrimSpace(data)):
			return nil, nil, fmt.Errorf("%s is not that of the cluster; hint: the host belongs to another one, myadm reset cleans it", path)
		}
	}
	return have, given, nil
}

// complete tells whether all that control planes share is there. The key of an authority may be kept elsewhere; then the
// certificates that it signs are somebody else's to place, and package certs says which are missing.
func complete(c *cluster.Cluster, have certs.Files) bool {
	return !slices.ContainsFunc(certs.SharedPaths(c.Config.Spec.Etcd.External != nil), func(path string) bool {
		authority, isKey := strings.CutSuffix(path, "ca.key")
		return have[path] == nil && !(isKey && have[authority+"ca.crt"] != nil)
	})
}

// CertSettings are what the certificates of a control plane say. The first one makes what the others share.
func CertSettings(c *cluster.Cluster, n *cluster.Node, first bool) certs.Settings {
	spec := c.Config.Spec
	return certs.Settings{
		NodeName:         n.Spec.Name,
		AdvertiseAddress: n.AdvertiseAddress(),
		ServiceIPs:       serviceIPs(c),
		DNSDomain:        spec.Networking.DNSDomain,
		ClusterName:      c.Config.Metadata.Name,
		Endpoint:         adminEndpoint(c, n),
		LocalEndpoint:    localEndpoint(c, n),
		SANs:             apiServerSANs(c),
		KeyAlgorithm:     spec.Certificates.KeyAlgorithm,
		CAValidity:       spec.Certificates.CAValidity.Duration,
		Validity:         spec.Certificates.Validity.Duration,
		First:            first,
		ExternalEtcd:     spec.Etcd.External != nil,
	}
}

// apiServerSANs are the names of an API server besides those that it always has: the document's, and the address at which
// the node-local load balancer answers for it.
func apiServerSANs(c *cluster.Cluster) []string {
	names := slices.Clone(c.Config.Spec.Certificates.APIServerSANs)
	if c.Config.Spec.LoadBalancer.Type == config.LoadBalancerNodeLocal {
		if host, _, err := net.SplitHostPort(c.Config.NodeEndpoint()); err == nil && !slices.Contains(names, host) {
			names = append(names, host)
		}
	}
	return names
}

// serviceIPs is the API's service address, the first of the service subnet, in each family.
func serviceIPs(c *cluster.Cluster) []netip.Addr {
	var addrs []netip.Addr
	for _, subnet := range c.Config.ServiceSubnets() {
		addrs = append(addrs, subnet.Masked().Addr().Next())
	}
	return addrs
}

// pkiMode is the mode of a file of the PKI, as kubeadm has it: all but certificates is for root alone.
func pkiMode(path string) fs.FileMode {
	if strings.HasSuffix(path, ".crt") {
		return 0o644
	}
	return 0o600
}

// openModes finds files that stand there with a mode other than theirs.
func openModes(ctx context.Context, r host.Reader, mine func(string) bool) ([]workflow.Change, error) {
	var paths []string
	for _, path := range certs.Paths() {
		// The kubelet makes this one a link once it renews its certificate, and cares for its mode.
		if mine(path) && path != config.KubeletClientCert {
			paths = append(paths, path)
		}
	}
	infos, err := r.Stat(ctx, paths...)
	if err != nil {
		return nil, err
	}
	var changes []workflow.Change
	for _, info := range infos {
		if want := pkiMode(info.Path); info.Exists && info.Mode.IsRegular() && info.Mode.Perm() != want {
			changes = append(changes, workflow.Change{Action: workflow.Update, Object: info.Path, Detail: fmt.Sprintf("mode %04o to %04o", info.Mode.Perm(), want)})
		}
	}
	return changes, nil
}

// closed are the files of which only the mode is to change.
func closed(have certs.Files, changes []workflow.Change) []host.File {
	var files []host.File
	for _, c := range changes {
		if data, ok := have[c.Object]; ok && strings.HasPrefix(c.Detail, "mode ") {
			files = append(files, host.File{Path: c.Object, Mode: pkiMode(c.Object), Data: data})
		}
	}
	return files
}

func action(have certs.Files, path string) workflow.Action {
	if _, ok := have[path]; ok {
		return workflow.Update
	}
	return workflow.Create
}

// ReadFiles reads many small files at once. Those that are not there are left out.
func ReadFiles(ctx context.Context, r host.Reader, paths []string) (certs.Files, error) {
	contents := make([][]byte, len(paths))
	g, ctx := errgroup.WithContext(ctx)
	for i, path := range paths {
		g.Go(func() error {
			data, err := r.ReadFile(ctx, path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if data == nil {
				data = []byte{}
			}
			contents[i] = data
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	files := certs.Files{}
	for i, data := range contents {
		if data != nil {
			files[paths[i]] = data
		}
	}
	return files, nil
}
