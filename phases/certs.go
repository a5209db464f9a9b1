package phases

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// Certs makes the PKI of the first control plane: what is missing or does not serve, and nothing else.
func Certs(c *cluster.Cluster, n *cluster.Node) workflow.Phase {
	return pki(c, n, "certs", "make the certificates and keys", func(path string) bool { return !isKubeconfig(path) })
}

// Kubeconfigs makes the kubeconfigs of the first control plane, and the kubelet's first client certificate.
func Kubeconfigs(c *cluster.Cluster, n *cluster.Node) workflow.Phase {
	return pki(c, n, "kubeconfigs", "make the kubeconfigs", isKubeconfig)
}

func isKubeconfig(path string) bool {
	return path == config.KubeletClientCert || slices.Contains(certs.KubeconfigPaths(), path)
}

// pki is a phase over those files of package certs that mine selects. Keys are made in memory and leave it only for the
// host that they belong to.
func pki(c *cluster.Cluster, n *cluster.Node, name, short string, mine func(path string) bool) workflow.Phase {
	return workflow.Phase{
		Name:  name,
		Short: short,
		Hosts: cluster.Hosts([]*cluster.Node{n}),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			have, err := readFiles(ctx, r, certs.Paths())
			if err != nil {
				return nil, err
			}
			findings, err := certs.Check(have, settings(c, n), c.Now())
			if err != nil {
				return nil, err
			}
			var changes []workflow.Change
			for _, f := range findings {
				for _, path := range f.Paths {
					if mine(path) {
						changes = append(changes, workflow.Change{Action: action(have, path), Object: path, Detail: f.Reason})
					}
				}
			}
			open, err := openModes(ctx, r, have, mine)
			return append(changes, open...), err
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			have, err := readFiles(ctx, h, certs.Paths())
			if err != nil {
				return err
			}
			made, err := certs.Issue(have, settings(c, n), c.Now())
			if err != nil {
				return err
			}
			made = slices.DeleteFunc(made, func(f certs.File) bool { return !mine(f.Path) })
			for _, stage := range certs.Stages(made) {
				files := make([]host.File, len(stage))
				for i, f := range stage {
					files[i] = host.File(f)
					delete(have, f.Path)
				}
				if err := h.WriteFiles(ctx, files...); err != nil {
					return err
				}
			}
			return h.WriteFiles(ctx, closed(have, changes)...)
		},
	}
}

// settings are what the certificates of a control plane say.
func settings(c *cluster.Cluster, n *cluster.Node) certs.Settings {
	spec := c.Config.Spec
	return certs.Settings{
		NodeName:         n.Spec.Name,
		AdvertiseAddress: n.AdvertiseAddress(),
		ServiceIPs:       serviceIPs(c),
		DNSDomain:        spec.Networking.DNSDomain,
		ClusterName:      c.Config.Metadata.Name,
		Endpoint:         c.Config.Endpoint(),
		LocalEndpoint:    localEndpoint(c, n),
		SANs:             spec.Certificates.APIServerSANs,
		KeyAlgorithm:     spec.Certificates.KeyAlgorithm,
		CAValidity:       spec.Certificates.CAValidity.Duration,
		Validity:         spec.Certificates.Validity.Duration,
		First:            true,
	}
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
func openModes(ctx context.Context, r host.Reader, have certs.Files, mine func(string) bool) ([]workflow.Change, error) {
	var paths []string
	for _, path := range certs.Paths() {
		// The kubelet makes this one a link once it renews its certificate, and cares for its mode.
		if _, ok := have[path]; ok && mine(path) && path != config.KubeletClientCert {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		return nil, nil
	}
	infos, err := r.Stat(ctx, paths...)
	if err != nil {
		return nil, err
	}
	var changes []workflow.Change
	for _, info := range infos {
		if want := pkiMode(info.Path); info.Mode.IsRegular() && info.Mode.Perm() != want {
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

// readFiles reads many small files at once. Those that are not there are left out.
func readFiles(ctx context.Context, r host.Reader, paths []string) (certs.Files, error) {
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
