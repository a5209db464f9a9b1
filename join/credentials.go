package join

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

// Credentials gives a host the cluster's CA and its kubelet a certificate, signed in memory with the key of a control
// plane: no token is needed, and nobody in the cluster has to be asked. A kubelet whose endpoint has become another keeps
// its certificate; it is stopped, for the phase kubelet to start it anew.
//
// The kubelet of a control plane that joins begins at the endpoint of all nodes, which answers long before its own API
// server does, and goes to that one later (see phases.KubeletFinalize).
func Credentials(c *cluster.Cluster, nodes []*cluster.Node, j *Joining) workflow.Phase {
	return workflow.Phase{
		Name:  "credentials",
		Short: "give the kubelet the cluster's CA and a certificate",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			have, ca, err := j.kubeletFiles(ctx, r)
			if err != nil {
				return nil, err
			}
			var changes []workflow.Change
			if ca == nil {
				return []workflow.Change{{Action: workflow.Create, Object: config.KubeletConf, Detail: "once the control plane has its PKI"}}, nil
			}
			if change, differs := caChange(have, ca); differs {
				changes = append(changes, change)
			}
			findings, err := certs.CheckKubelet(withCA(have, ca), kubeletSettings(c, c.Node(r), have), c.Now())
			if err != nil {
				return nil, err
			}
			for _, f := range findings {
				for _, path := range f.Paths {
					action := workflow.Update
					if have[path] == nil {
						action = workflow.Create
					}
					changes = append(changes, workflow.Change{Action: action, Object: path, Detail: f.Reason})
				}
			}
			return changes, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			have, ca, err := j.kubeletFiles(ctx, h)
			if err != nil {
				return err
			}
			if ca == nil {
				return errors.New("the control plane has no CA with a key; hint: run myadm init first")
			}
			made, err := certs.IssueKubelet(withCA(have, ca), kubeletSettings(c, c.Node(h), have), c.Now())
			if err != nil {
				return err
			}
			files := []host.File{{Path: caCert, Mode: 0o644, Data: ca[caCert]}}
			for _, f := range made {
				files = append(files, host.File(f))
			}
			if _, running := have[config.KubeletConf]; running && len(made) > 0 {
				if _, err := h.Run(ctx, host.Command("systemctl", "stop", "kubelet.service")); err != nil {
					return fmt.Errorf("stop the kubelet: %w", err)
				}
			}
			at, err := clock(ctx, h)
			if err != nil {
				return err
			}
			if err := h.WriteFiles(ctx, files...); err != nil {
				return err
			}
			j.given(h.Name(), at)
			return nil
		},
	}
}

// The root CA, as it stands on every node and, with its key, on the control planes.
const (
	caCert = config.PKIDir + "/ca.crt"
	caKey  = config.PKIDir + "/ca.key"
)

// kubeletFiles are what a worker has of its kubelet's credentials, and the cluster's CA with its key; the CA is nil while
// there is none.
func (j *Joining) kubeletFiles(ctx context.Context, r host.Reader) (have, ca certs.Files, err error) {
	var shared certs.Files
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		have, err = phases.ReadFiles(ctx, r, []string{caCert, config.KubeletConf, config.KubeletClientCert})
		return err
	})
	g.Go(func() (err error) {
		shared, err = j.pki(ctx)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	if shared[caCert] == nil || shared[caKey] == nil {
		return have, nil, nil
	}
	return have, certs.Files{caCert: shared[caCert], caKey: shared[caKey]}, nil
}

func withCA(have, ca certs.Files) certs.Files {
	all := certs.Files{}
	for path, data := range have {
		all[path] = data
	}
	for path, data := range ca {
		all[path] = data
	}
	return all
}

// caChange compares the CA on a worker with the cluster's.
func caChange(have, ca certs.Files) (workflow.Change, bool) {
	old, exists := have[caCert]
	switch {
	case !exists:
		return workflow.Change{Action: workflow.Create, Object: caCert}, true
	case !bytes.Equal(bytes.TrimSpace(old), bytes.TrimSpace(ca[caCert])):
		return workflow.Change{Action: workflow.Update, Object: caCert, Detail: "content"}, true
	}
	return workflow.Change{}, false
}

// kubeletSettings are what a host's kubelet.conf is to say.
func kubeletSettings(c *cluster.Cluster, n *cluster.Node, have certs.Files) certs.Settings {
	s := phases.CertSettings(c, n, false)
	s.Endpoint = c.Config.NodeEndpoint()
	if n.Spec.HasRole(config.RoleControlPlane) {
		if _, moves, err := certs.PointAt(have[config.KubeletConf], "https://"+s.LocalEndpoint); err == nil && !moves {
			s.Endpoint = s.LocalEndpoint // it has come there
		}
	}
	return s
}
