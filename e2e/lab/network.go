package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// firstHost is the last number of h1's address; .1 is the bridge.
const firstHost = 11

// maxHosts is how many hosts fit into a subnet.
const maxHosts = 200

// ensureNetwork returns the subnet of the lab's network, which it makes if there is none. The network is internal: while
// kube-proxy is not up, a packet to a Service address follows the default route and must not leave the machine.
func (l *Lab) ensureNetwork(ctx context.Context) (netip.Prefix, error) {
	found, err := l.d.lines(ctx, "network", "ls", "--filter", l.filter(), "--format", "{{.Name}}")
	if err != nil {
		return netip.Prefix{}, err
	}
	if len(found) > 0 {
		out, err := l.d.run(ctx, nil, "network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", found[0])
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.ParsePrefix(strings.TrimSpace(out))
	}
	taken, err := machinePrefixes()
	if err != nil {
		return netip.Prefix{}, err
	}
	for {
		subnet, err := freeSubnet(taken)
		if err != nil {
			return netip.Prefix{}, err
		}
		_, err = l.d.run(ctx, nil, "network", "create", "--internal", "--subnet", subnet.String(),
			"--gateway", gateway(subnet).String(), "--opt", "com.docker.network.bridge.name="+l.network(),
			"--label", labelLab+"="+l.id, "--label", labelDir+"="+l.Dir, l.network())
		if err == nil {
			return subnet, nil
		}
		// Another lab may have been quicker, or a network of Docker's own that is not up may hold the range.
		if !strings.Contains(err.Error(), "overlaps") {
			return netip.Prefix{}, err
		}
		taken = append(taken, subnet)
	}
}

// freeSubnet picks the first of 10.89.0.0/24 to 10.89.255.0/24 that meets none of the taken prefixes. They are outside
// of Kubernetes' default pod and Service ranges.
func freeSubnet(taken []netip.Prefix) (netip.Prefix, error) {
candidates:
	for third := range 256 {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 89, byte(third), 0}), 24)
		for _, t := range taken {
			if t.Overlaps(subnet) {
				continue candidates
			}
		}
		return subnet, nil
	}
	return netip.Prefix{}, errors.New("every subnet of 10.89.0.0/16 is taken; hint: lab down in folders no longer needed")
}

// machinePrefixes are the subnets of the machine's interfaces.
func machinePrefixes() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var prefixes []netip.Prefix
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}

func gateway(subnet netip.Prefix) netip.Addr { return nth(subnet, 1) }

// hostAddress is the address of host i, counted from 0.
func hostAddress(subnet netip.Prefix, i int) netip.Addr { return nth(subnet, firstHost+i) }

func nth(subnet netip.Prefix, n int) netip.Addr {
	a := subnet.Masked().Addr().As4()
	a[3] = byte(n)
	return netip.AddrFrom4(a)
}

func hostName(i int) string { return fmt.Sprintf("h%d", i+1) }
