package phases

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// KubeletFinalize makes kubelet.conf name the file in which the kubelet keeps the certificate that it renews, instead of
// embedding the first one, and, on a control plane, the API server beside it. The running kubelet has put its certificate
// there, and goes to its own API server when it starts the next time; it needs no restart.
func KubeletFinalize(c *cluster.Cluster, nodes []*cluster.Node, patience time.Duration) workflow.Phase {
	return workflow.Phase{
		Name:  "kubelet-finalize",
		Short: "let the kubelets' kubeconfigs follow the renewed certificates",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			_, todo, err := finalized(ctx, c, r)
			if err != nil || todo == "" {
				return nil, err
			}
			return []workflow.Change{{Action: workflow.Update, Object: config.KubeletConf, Detail: todo}}, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			if err := WaitForFiles(ctx, h, patience, config.KubeletConf, config.KubeletClientCert); err != nil {
				return err
			}
			conf, _, err := finalized(ctx, c, h)
			if err != nil {
				return err
			}
			return h.WriteFiles(ctx, host.File{Path: config.KubeletConf, Mode: 0o600, Data: conf})
		},
	}
}

// finalized is kubelet.conf as it should be in the end, and what is to change for it to be so; empty: nothing.
func finalized(ctx context.Context, c *cluster.Cluster, r host.Reader) (conf []byte, todo string, err error) {
	files, err := ReadFiles(ctx, r, []string{config.KubeletConf})
	if err != nil {
		return nil, "", err
	}
	data, ok := files[config.KubeletConf]
	if !ok {
		return nil, "name " + config.KubeletClientCert, nil // an earlier phase has still to make it
	}
	conf, embedded, err := certs.FollowRotation(data)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", config.KubeletConf, err)
	}
	var todos []string
	if embedded {
		todos = append(todos, "name "+config.KubeletClientCert)
	}
	if n := c.Node(r); n.Spec.HasRole(config.RoleControlPlane) {
		own := "https://" + localEndpoint(c, n)
		moved := false
		if conf, moved, err = certs.PointAt(conf, own); err != nil {
			return nil, "", fmt.Errorf("%s: %w", config.KubeletConf, err)
		}
		if moved {
			todos = append(todos, "name "+own)
		}
	}
	return conf, strings.Join(todos, ", "), nil
}
