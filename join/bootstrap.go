package join

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

// TLSBootstrap gives a host the cluster's CA and, until its kubelet has a certificate of its own, the token to ask for
// one with.
func TLSBootstrap(nodes []*cluster.Node, j *Joining) workflow.Phase {
	ca := host.File{Path: caCert, Mode: 0o644, Data: j.CA}
	return workflow.Phase{
		Name:  "tls-bootstrap",
		Short: "give the kubelet the cluster's CA and a token",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			have, err := r.ReadFile(ctx, ca.Path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			var changes []workflow.Change
			if !bytes.Equal(have, ca.Data) {
				changes = append(changes, workflow.Change{Action: workflow.Create, Object: ca.Path})
			}
			todo, err := mustBootstrap(ctx, r, j)
			if todo {
				changes = append(changes, workflow.Change{Action: workflow.Create, Object: config.BootstrapKubeletConf})
			}
			return changes, err
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			files := []host.File{ca}
			todo, err := mustBootstrap(ctx, h, j)
			if err != nil {
				return err
			}
			if todo {
				token, err := j.token(ctx)
				if err != nil {
					return err
				}
				conf, err := certs.BootstrapKubeconfig(j.Server, j.CA, token.Reveal())
				if err != nil {
					return err
				}
				files = append(files, host.File{Path: config.BootstrapKubeletConf, Mode: 0o600, Data: conf})
				at, err := clock(ctx, h)
				if err != nil {
					return err
				}
				j.given(h.Name(), at)
			}
			return h.WriteFiles(ctx, files...)
		},
	}
}

// mustBootstrap tells whether a host still needs a token: its kubelet has no kubeconfig of its own, and this run has
// given it none. A token that an earlier run left may have expired and is replaced.
func mustBootstrap(ctx context.Context, r host.Reader, j *Joining) (bool, error) {
	infos, err := r.Stat(ctx, config.KubeletConf, config.BootstrapKubeletConf)
	if err != nil {
		return false, err
	}
	return !infos[0].Exists && !(infos[1].Exists && j.wasGiven(r.Name())), nil
}

// NodeReady waits until the kubelets have got their certificates and their nodes are Ready, and then takes the token
// off the hosts.
func NodeReady(c *cluster.Cluster, nodes []*cluster.Node, j *Joining, patience time.Duration) workflow.Phase {
	return workflow.Phase{
		Name:  "node-ready",
		Short: "wait until the nodes are Ready",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			n := c.Node(r)
			infos, err := r.Stat(ctx, config.KubeletConf, config.BootstrapKubeletConf, config.KubeletClientCert)
			if err != nil {
				return nil, err
			}
			var changes []workflow.Change
			ready := false
			if infos[0].Exists {
				if _, moves, err := repoint(ctx, c, n); err != nil {
					return nil, err
				} else if moves {
					changes = append(changes, workflow.Change{Action: workflow.Update, Object: config.KubeletConf, Detail: "name https://" + c.Config.NodeEndpoint()})
				}
			}
			if infos[0].Exists && infos[2].Exists {
				client, err := NodeClient(ctx, n)
				if err != nil {
					return nil, err
				}
				defer client.Close()
				if ready, err = phases.IsReady(ctx, client, n.Spec.Name, j.since(n.Name())); err != nil {
					return nil, err
				}
			}
			if !ready {
				changes = append(changes, workflow.Change{Action: workflow.Run, Object: "Node " + n.Spec.Name, Detail: "wait until it is Ready"})
			}
			if infos[1].Exists {
				changes = append(changes, workflow.Change{Action: workflow.Delete, Object: config.BootstrapKubeletConf})
			}
			return changes, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			n := c.Node(h)
			if err := phases.WaitForFiles(ctx, n, patience, config.KubeletConf, config.KubeletClientCert); err != nil {
				return err
			}
			conf, moves, err := repoint(ctx, c, n)
			if err != nil {
				return err
			}
			if moves {
				if err := h.WriteFiles(ctx, host.File{Path: config.KubeletConf, Mode: 0o600, Data: conf}); err != nil {
					return err
				}
			}
			client, err := NodeClient(ctx, n)
			if err != nil {
				return err
			}
			defer client.Close()
			if err := hasten(ctx, client, h, n, moves, j.since(n.Name())); err != nil {
				return err
			}
			if err := phases.WaitReady(ctx, client, n, j.since(n.Name()), patience); err != nil {
				return err
			}
			return h.Remove(ctx, config.BootstrapKubeletConf)
		},
	}
}

// clock is the host's time of day, to the second.
func clock(ctx context.Context, r host.Reader) (time.Time, error) {
	out, err := r.Query(ctx, host.Command("date", "+%s"))
	if err != nil {
		return time.Time{}, fmt.Errorf("read the clock: %w", err)
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the clock: %w", err)
	}
	return time.Unix(seconds, 0), nil
}

// repoint is a worker's kubelet.conf that names the endpoint of the nodes. A kubelet that has asked for its certificate by
// token has written there where it asked; a control plane's keeps to its own API server.
func repoint(ctx context.Context, c *cluster.Cluster, n *cluster.Node) (conf []byte, moves bool, err error) {
	if n.Spec.HasRole(config.RoleControlPlane) || !c.Config.Spec.LoadBalancer.Balanced() {
		return nil, false, nil
	}
	have, err := n.ReadFile(ctx, config.KubeletConf)
	if err != nil {
		return nil, false, err
	}
	conf, moves, err = certs.PointAt(have, "https://"+c.Config.NodeEndpoint())
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", config.KubeletConf, err)
	}
	return conf, moves, nil
}

// hasten restarts a kubelet whose endpoint has moved, or that has its certificate and has not reported yet. The latter has
// tried to register without one meanwhile, lets more and more seconds pass before it tries again, and by then may have
// given up other things for ten more.
func hasten(ctx context.Context, client *kube.Client, h host.Host, n *cluster.Node, moved bool, since time.Time) error {
	if !moved {
		reported, err := phases.Reported(ctx, client, n.Spec.Name, since)
		if err != nil || reported {
			return err
		}
	}
	if _, err := h.Run(ctx, host.Command("systemctl", "restart", "kubelet.service")); err != nil {
		return fmt.Errorf("restart the kubelet: %w", err)
	}
	return nil
}
