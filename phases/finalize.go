package phases

import (
	"context"
	"fmt"
	"time"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// KubeletFinalize makes kubelet.conf name the file in which the kubelet keeps the certificate that it renews, instead of
// embedding the first one. The running kubelet has put it there and needs no restart.
func KubeletFinalize(n *cluster.Node, patience time.Duration) workflow.Phase {
	return workflow.Phase{
		Name:  "kubelet-finalize",
		Short: "let the kubelet's kubeconfig follow the renewed certificate",
		Hosts: cluster.Hosts([]*cluster.Node{n}),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			_, follows, err := followRotation(ctx, r)
			if err != nil || follows {
				return nil, err
			}
			return []workflow.Change{{Action: workflow.Update, Object: config.KubeletConf, Detail: "name " + config.KubeletClientCert}}, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			if err := WaitForFile(ctx, h, config.KubeletClientCert, patience); err != nil {
				return err
			}
			conf, _, err := followRotation(ctx, h)
			if err != nil {
				return err
			}
			return h.WriteFiles(ctx, host.File{Path: config.KubeletConf, Mode: 0o600, Data: conf})
		},
	}
}

func followRotation(ctx context.Context, r host.Reader) (conf []byte, follows bool, err error) {
	files, err := readFiles(ctx, r, []string{config.KubeletConf})
	if err != nil {
		return nil, false, err
	}
	data, ok := files[config.KubeletConf]
	if !ok {
		return nil, false, nil // the phase kubeconfigs has still to make it
	}
	conf, changed, err := certs.FollowRotation(data)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", config.KubeletConf, err)
	}
	return conf, !changed, nil
}
