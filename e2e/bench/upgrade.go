package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/myadm/myadm/e2e/lab"
)

// oldVersion is what upgrades start from.
const oldVersion = "v1.36.3"

// upgrader is a tool that upgrades a cluster of its own.
type upgrader struct {
	name    string
	remake  func(ctx context.Context) error          // puts its own cluster in the place of the one that myadm has made
	bring   func(ctx context.Context) (times, error) // brings the new version's images and binaries to all hosts
	upgrade func(ctx context.Context) (times, error) // the rest
}

// upgrades lets both tools upgrade, one after the other, each a cluster that it has made itself on hosts that were bare.
func (b *bench) upgrades(ctx context.Context, r *report, rounds int) error {
	contenders := []upgrader{b.myadmUpgrader(), b.kubeadmUpgrader()}
	for round := range rounds {
		for i := range contenders {
			u := contenders[(round+i)%len(contenders)]
			if err := b.upgradeTurn(ctx, r, u); err != nil {
				return fmt.Errorf("upgrade, %s: %w", u.name, err)
			}
		}
	}
	return nil
}

// upgradeTurn measures one tool once, in two parts: what can be done before, while the cluster is left alone, and what then
// is to be done.
func (b *bench) upgradeTurn(ctx context.Context, r *report, u upgrader) error {
	if err := b.up(ctx, b.old.version, 5, controlPlanes); err != nil {
		return err
	}
	if _, err := b.runMyadm(ctx, "apply", "--bundle", b.old.bundle); err != nil {
		return fmt.Errorf("make a cluster of %s: %w", b.old.version, err)
	}
	if err := u.remake(ctx); err != nil {
		return fmt.Errorf("make a cluster of %s: %w", b.old.version, err)
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	b.tell("%s: cluster of %s made", u.name, b.old.version)
	share, err := u.bring(ctx)
	if err != nil {
		return fmt.Errorf("bring images and binaries: %w", err)
	}
	r.add(upgradeShare, u.name, share)
	b.tell("%s: images and binaries of %s %.1f s", u.name, b.version, share.end.Seconds())
	if err := b.settle(ctx); err != nil {
		return err
	}
	upgraded, err := u.upgrade(ctx)
	if err != nil {
		return err
	}
	if err := b.checkUpgraded(ctx); err != nil {
		return err
	}
	r.add(preparedUpgrade, u.name, upgraded)
	r.add(wholeUpgrade, u.name, times{end: share.end + upgraded.end, ready: share.end + upgraded.ready})
	b.tell("%s: upgrade %.1f s, Ready %.1f s", u.name, upgraded.end.Seconds(), upgraded.ready.Seconds())
	return nil
}

// settle waits until the cluster is at rest: its addons run, and the disks are quiet.
func (b *bench) settle(ctx context.Context) error {
	for _, args := range [][]string{
		{"-n", "kube-system", "rollout", "status", "deployment/coredns"},
		{"-n", "kube-system", "rollout", "status", "daemonset/kube-proxy"},
		{"-n", "kube-flannel", "rollout", "status", "daemonset/kube-flannel-ds"},
	} {
		if _, err := b.ssh(ctx, b.lab.Hosts[0].Name, slices.Concat(kubectl, args, []string{"--timeout", "4m"})...); err != nil {
			return err
		}
	}
	_, err := b.ssh(ctx, b.lab.Hosts[0].Name, "sync") // all hosts have the machine's one kernel
	return err
}

// awaitUpgraded waits on the first host until all nodes are Ready and have the kubelet of the new version.
func (b *bench) awaitUpgraded(ctx context.Context) error {
	version := fmt.Sprintf("'jsonpath={.status.nodeInfo.kubeletVersion}=%s'", b.version) // quoted, for the host's shell
	wait := slices.Concat(kubectl, []string{"wait", "--for", version, "--timeout", "4m", "node", "--all"})
	if _, err := b.ssh(ctx, b.lab.Hosts[0].Name, wait...); err != nil {
		return err
	}
	return b.awaitReady(ctx, b.lab.Hosts)
}

// checkUpgraded refuses to measure an upgrade that has left something behind.
func (b *bench) checkUpgraded(ctx context.Context) error {
	if err := errors.Join(b.awaitUpgraded(ctx), b.settle(ctx)); err != nil {
		return err
	}
	images, err := b.lab.Output(ctx, b.lab.Hosts[0].Name, slices.Concat(kubectl, []string{
		"get", "pods", "-n", "kube-system", "-o", "jsonpath={.items[*].spec.containers[*].image}",
	})...)
	if err != nil {
		return err
	}
	return noneOf(b.old.version, strings.Fields(images))
}

// noneOf refuses images of a version.
func noneOf(version string, images []string) error {
	if len(images) == 0 {
		return errors.New("after the upgrade there are no pods in kube-system")
	}
	for _, image := range images {
		if strings.HasSuffix(image, ":"+version) {
			return fmt.Errorf("after the upgrade there still is a pod of %s", image)
		}
	}
	return nil
}

// myadmUpgrader upgrades the cluster that myadm has made. What was brought before it finds in place.
func (b *bench) myadmUpgrader() upgrader {
	apply := func(ctx context.Context, more ...string) (times, error) {
		return b.runMyadm(ctx, append([]string{"upgrade", "apply", b.version, "--bundle", b.bundle}, more...)...)
	}
	return upgrader{
		name:    nameMyadm,
		remake:  func(context.Context) error { return nil },
		bring:   func(ctx context.Context) (times, error) { return apply(ctx, "--only", "images,binaries") },
		upgrade: func(ctx context.Context) (times, error) { return apply(ctx) },
	}
}

// kubeadmUpgrader upgrades a cluster that kubeadm has made, as its documentation says.
func (b *bench) kubeadmUpgrader() upgrader {
	return upgrader{
		name: nameKubeadm,
		remake: func(ctx context.Context) error {
			network, err := b.flannel(ctx)
			if err != nil {
				return err
			}
			if err := b.clean(ctx, b.lab.Hosts); err != nil {
				return err
			}
			err = b.onAll(ctx, b.lab.Hosts, func(ctx context.Context, h lab.Host) error {
				return b.lab.Copy(ctx, h.Name, b.old.kubeadm, kubeadmPath)
			})
			if err != nil {
				return err
			}
			_, err = b.kubeadmCluster(ctx, network, false)
			return err
		},
		bring: func(ctx context.Context) (times, error) {
			start := time.Now()
			err := b.bringByHand(ctx)
			took := time.Since(start)
			return times{end: took, ready: took}, err
		},
		upgrade: b.upgradeByKubeadm,
	}
}
