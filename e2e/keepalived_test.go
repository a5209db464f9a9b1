//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/myadm/myadm/e2e/lab"
)

// TestKeepalived makes a cluster whose endpoint is an address that one of three control planes has at a time.
func TestKeepalived(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 4, ControlPlanes: 3})
	servers := []string{"h1", "h2", "h3"}
	virtual := s.virtualIP()
	s.document = s.write(t, servers, []string{"h4"}, func(spec map[string]any) {
		spec["loadBalancer"] = map[string]any{"type": "keepalived", "virtualIP": virtual.String()}
	})
	s.follow(t, servers...)
	endpoint := net.JoinHostPort(virtual.String(), "6444")

	s.apply(t, "-v")
	s.wantReady(t, "h1", "h2", "h3", "h4")
	s.wantMembers(t, servers...)
	s.waitAvailable(t)
	config, err := clientcmd.LoadFromFile(s.kubeconfig)
	must(t, err)
	for name, cluster := range config.Clusters {
		if cluster.Server != "https://"+endpoint {
			t.Errorf("cluster %s of the kubeconfig has the server %s, want %s", name, cluster.Server, endpoint)
		}
	}
	holder := s.awaitHolder(t, virtual, servers)
	worker := s.dialFrom(t, "h4")
	must(t, s.readyz(t.Context(), t, worker, endpoint))
	s.testApplyAgain(t, "h1", "h2", "h3", "h4")

	l := s.startLoads(t, "h4")
	l.podGap = clientGoGap
	must(t, s.Kill(t.Context(), holder))
	began := time.Now()
	eventually(t, time.Minute, endpoint+" without "+holder, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return s.readyz(ctx, t, worker, endpoint)
	})
	took := time.Since(began)
	t.Logf("%s answered again %.1f s after the power loss of %s, which had it", endpoint, took.Seconds(), holder)
	if took > longestGap {
		t.Errorf("it answered only after %s; want at most %s", took, longestGap)
	}
	s.awaitHolder(t, virtual, others(servers, holder))
	l.awaitCalm(t)
	on := time.Now()
	must(t, s.Start(t.Context(), holder))
	s.awaitReturn(t, holder, on)
	s.wantMembers(t, servers...)
	s.awaitHolder(t, virtual, servers)
	l.awaitCalm(t)
	l.report(t, "power loss of the holder of the virtual IP")
	l.stop(t)
}

// clientGoGap is what a pod bears whose API server loses its power, where nothing but the Service stands between them: after
// 30 s of silence client-go asks whether the other side is there, and waits 15 s for the answer. A busy machine is given more.
const clientGoGap = time.Minute

// virtualIP is an address of the lab's network that no host has.
func (s *site) virtualIP() netip.Addr { return inNetworkOf(s.Hosts[0].Address, 250) }

// machineIP is the address of this machine in the lab's network.
func (s *site) machineIP() netip.Addr { return inNetworkOf(s.Hosts[0].Address, 1) }

// inNetworkOf is another address of a lab's network, which has 24 bits of prefix.
func inNetworkOf(address netip.Addr, last byte) netip.Addr {
	bytes := address.As4()
	bytes[3] = last
	return netip.AddrFrom4(bytes)
}

// awaitHolder waits until exactly one of these hosts has an address, and returns its name.
func (s *site) awaitHolder(t *testing.T, address netip.Addr, hosts []string) string {
	t.Helper()
	var holders []string
	eventually(t, 30*time.Second, "one holder of "+address.String(), func(context.Context) error {
		holders = nil
		for _, h := range hosts {
			if strings.Contains(s.output(t, h, "ip", "-oneline", "address"), " "+address.String()+"/") {
				holders = append(holders, h)
			}
		}
		if len(holders) != 1 {
			return fmt.Errorf("%v have it", holders)
		}
		return nil
	})
	return holders[0]
}
