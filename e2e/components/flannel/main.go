// Command flanneld gives each node's pods a way to the pods of the other nodes: it takes the node's pod CIDR from the
// Kubernetes API, sets up a backend (vxlan or host-gw) and writes the file that the CNI plugin reads.
//
// It is flannel's own packages under a main of ours. Flannel's main does not resolve from modules (one of its cloud
// backends needs an SDK that is not published), and a Kubernetes node needs neither that backend nor the etcd subnet
// manager. Flags keep upstream's names and defaults, so that one DaemonSet runs either image.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr"
	"github.com/flannel-io/flannel/pkg/trafficmngr/iptables"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
	"github.com/flannel-io/flannel/pkg/version"
	"k8s.io/klog/v2"
)

func main() {
	o, err := parseOptions(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "flanneld:", err)
		os.Exit(2)
	}
	if o.version {
		fmt.Println(version.Version)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil && ctx.Err() == nil {
		klog.Errorf("flanneld: %v", err)
		klog.Flush()
		os.Exit(1)
	}
}

// run returns once ctx has ended and every goroutine of the backend with it; any error before that is fatal, and the
// kubelet restarts the pod.
func run(ctx context.Context, o options) error {
	// The backend's goroutines belong to this context, so that a failure here stops them too.
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	manager, err := kube.NewSubnetManager(ctx, o.kubeAPIURL, o.kubeconfig, o.annotationPrefix, o.netConf, o.setNodeCondition)
	if err != nil {
		return fmt.Errorf("subnet manager: %w", err)
	}
	config, err := manager.GetNetworkConfig(ctx)
	if err != nil {
		return fmt.Errorf("read network configuration %s: %w", o.netConf, err)
	}
	iface, err := externalInterface(ctx, o, manager, config)
	if err != nil {
		return err
	}
	be, err := backend.NewManager(ctx, manager, iface).GetBackend(config.BackendType)
	if err != nil {
		return fmt.Errorf("backend %q: %w; hint: this build has vxlan and host-gw", config.BackendType, err)
	}
	network, err := be.RegisterNetwork(ctx, &wg, config)
	if err != nil {
		return fmt.Errorf("register with backend %s: %w", config.BackendType, err)
	}
	if err := applyRules(ctx, o, config, network); err != nil {
		return err
	}
	lease := network.Lease()
	// Last of all: the CNI plugin starts making pods as soon as this file exists.
	if err := manager.HandleSubnetFile(o.subnetFile, config, o.ipMasq, lease.Subnet, lease.IPv6Subnet, network.MTU()); err != nil {
		return fmt.Errorf("write %s: %w", o.subnetFile, err)
	}
	klog.Infof("wrote %s for %s, backend %s on %s", o.subnetFile, lease.Subnet, config.BackendType, iface.IfaceName)
	wg.Go(func() { network.Run(ctx) })
	if o.healthzPort > 0 {
		wg.Go(func() { serveHealth(ctx, o.healthzIP, o.healthzPort) })
	}
	if err := manager.CompleteLease(ctx, lease, &wg); err != nil {
		return fmt.Errorf("mark the node's network as available: %w", err)
	}
	<-ctx.Done()
	return nil
}

// externalInterface picks the interface that other nodes reach this one at: the first of --iface, --iface-regex and
// --iface-can-reach that fits, or the one with the default route. Addresses stored on the node win over the flags.
func externalInterface(ctx context.Context, o options, manager subnet.Manager, config *subnet.Config) (*backend.ExternalInterface, error) {
	family, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; hint: enable IPv4 or IPv6", o.netConf, err)
	}
	public := ipmatch.PublicIPOpts{PublicIP: o.publicIP, PublicIPv6: o.publicIPv6}
	if v4, v6 := manager.GetStoredPublicIP(ctx); v4 != "" || v6 != "" {
		public.PublicIP, public.PublicIPv6 = orElse(v4, public.PublicIP), orElse(v6, public.PublicIPv6)
	}
	type candidate struct{ name, regex, reach string }
	var candidates []candidate
	for _, name := range o.ifaces {
		candidates = append(candidates, candidate{name: name})
	}
	for _, regex := range o.ifaceRegexes {
		candidates = append(candidates, candidate{regex: regex})
	}
	if o.ifaceCanReach != "" {
		candidates = append(candidates, candidate{reach: o.ifaceCanReach})
	}
	if len(candidates) == 0 {
		candidates = []candidate{{name: orElse(public.PublicIP, public.PublicIPv6)}}
	}
	for _, c := range candidates {
		iface, lookupErr := ipmatch.LookupExtIface(c.name, c.regex, c.reach, family, public)
		if lookupErr == nil {
			return iface, nil
		}
		err = lookupErr
		klog.Warningf("no interface for %+v: %v", c, lookupErr)
	}
	return nil, fmt.Errorf("find the interface to other nodes: %w; hint: name it with --iface or --iface-can-reach", err)
}

// applyRules installs masquerading and forwarding, after removing what the other kind of rules left behind when the
// configuration has switched between iptables and nftables.
func applyRules(ctx context.Context, o options, config *subnet.Config, network backend.Network) error {
	var rules, stale trafficmngr.TrafficManager = &iptables.IPTablesManager{}, &nftables.NFTablesManager{}
	if config.EnableNFTables {
		rules, stale = stale, rules
	}
	if err := stale.CleanUp(ctx); err != nil {
		return fmt.Errorf("remove unused rules: %w", err)
	}
	if err := rules.Init(ctx); err != nil {
		return fmt.Errorf("set up packet rules: %w", err)
	}
	resync := int(o.resync / time.Second)
	if o.ipMasq {
		old := readSubnetFile(o.subnetFile)
		err := rules.SetupAndEnsureMasqRules(ctx, config.Network, old.subnet, old.network,
			config.IPv6Network, old.subnet6, old.network6, network.Lease(), resync, o.masqNoRandom)
		if err != nil {
			return fmt.Errorf("masquerade traffic that leaves %s: %w", config.Network, err)
		}
	}
	if o.forwardRules {
		rules.SetupAndEnsureForwardRules(ctx, config.Network, config.IPv6Network, resync)
	}
	return nil
}

func orElse(value, fallback string) string {
	if value != "" {
		return value
	}
	return fallback
}
