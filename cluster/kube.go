package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
)

// ErrNoCluster says that no control plane has a kubeconfig of an administrator: there is no cluster yet.
var ErrNoCluster = errors.New("there is no cluster on the control plane yet; hint: run myadm init first")

// Kube is the API as an administrator, reached through the connection to a control plane, so that the operator needs
// no route to it. The client is made once; it is no sign that the API answers.
func (c *Cluster) Kube(ctx context.Context) (*kube.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		return c.client, nil
	}
	var errs []error
	for _, n := range c.ControlPlanes() {
		data, err := AdminKubeconfig(ctx, n)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			c.client, err = kube.Connect(data, n.Dial, kube.Options{Version: c.Version})
		}
		if err == nil {
			return c.client, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", n.Name(), err))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return nil, ErrNoCluster
}

// AdminKubeconfig reads a control plane's strongest kubeconfig: super-admin.conf, which works before there is any RBAC
// and which init leaves on the first control plane, else admin.conf.
func AdminKubeconfig(ctx context.Context, r host.Reader) ([]byte, error) {
	data, err := r.ReadFile(ctx, config.SuperAdminConf)
	if errors.Is(err, fs.ErrNotExist) {
		return r.ReadFile(ctx, config.AdminConf)
	}
	return data, err
}
