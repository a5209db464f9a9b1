package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/e2e/lab"
)

// up makes bare hosts, in place of those that there were, for a version of Kubernetes. The first so many are control
// planes.
func (b *bench) up(ctx context.Context, version string, hosts, controlPlanes int) error {
	if err := b.down(ctx); err != nil {
		return err
	}
	b.tell("bare hosts: %d", hosts)
	var err error
	b.lab, err = lab.Up(ctx, lab.Options{Dir: b.dir, Hosts: hosts, ControlPlanes: controlPlanes, KubernetesVersion: version, Log: b.log})
	return err
}

// down removes the hosts.
func (b *bench) down(ctx context.Context) error {
	return lab.Down(ctx, b.dir, io.Discard)
}

// forget takes away what makes a host a node and leaves what it was prepared with: the runtime runs and has its images, the
// binaries, the units and the CNI's configuration are in place, the kubelet stands still. containerd starts anew,
// because its CRI plugin still knows the pods that are gone. The disk is quiet when the next turn starts.
const forget = `
set -eu
rm -rf /etc/kubernetes /var/lib/cni /run/flannel /var/log/pods /var/log/containers
find /var/lib/kubelet /var/lib/etcd -mindepth 1 -delete
systemctl restart containerd
test -z "$(ctr -n k8s.io containers ls -q)"
test -s /etc/cni/net.d/10-flannel.conflist
sync
`

// clean brings hosts into the state in which a turn starts. What kubeadm has left is cleaned like what myadm has left: the
// phases of reset go by what is there.
func (b *bench) clean(ctx context.Context, hosts []lab.Host) error {
	args := []string{"reset", "--yes", "--skip", "stop-runtime,remove-files"}
	for _, h := range hosts {
		args = append(args, h.Name)
	}
	// containerd may still be taking back a pod that it was starting, and a container is then gone before it is removed.
	// reset is made to be run again.
	_, err := b.runMyadm(ctx, args...)
	if err != nil {
		b.tell("clean once more, because of: %v", err)
		_, err = b.runMyadm(ctx, args...)
	}
	if err != nil {
		return fmt.Errorf("clean: %w", err)
	}
	return b.onAll(ctx, hosts, func(ctx context.Context, h lab.Host) error {
		var stderr bytes.Buffer
		if err := b.lab.Exec(ctx, h.Name, lab.Streams{Err: &stderr}, "sh", "-c", forget); err != nil {
			return fmt.Errorf("clean %s: %w: %s", h.Name, err, bytes.TrimSpace(stderr.Bytes()))
		}
		return nil
	})
}

// onAll does something on hosts at the same time.
func (b *bench) onAll(ctx context.Context, hosts []lab.Host, do func(context.Context, lab.Host) error) error {
	errs := make([]error, len(hosts))
	var g errgroup.Group
	for i, h := range hosts {
		g.Go(func() error {
			errs[i] = do(ctx, h)
			return nil
		})
	}
	_ = g.Wait() // the errors are all wanted, not the first
	return errors.Join(errs...)
}
