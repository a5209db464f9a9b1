package main

import (
	"bufio"
	"context"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/flannel-io/flannel/pkg/ip"
	"k8s.io/klog/v2"
)

// previous is what an earlier run of flanneld wrote: the rules made for it are replaced, not added to.
type previous struct {
	network, subnet   ip.IP4Net
	network6, subnet6 ip.IP6Net
}

// readSubnetFile never fails: without a readable file there is nothing to replace, and zero values say so.
func readSubnetFile(path string) previous {
	// The packages dereference an IPv6 address, so the zero network needs one.
	p := previous{
		network6: ip.IP6Net{IP: (*ip.IP6)(new(big.Int))},
		subnet6:  ip.IP6Net{IP: (*ip.IP6)(new(big.Int))},
	}
	f, err := os.Open(path)
	if err != nil {
		return p
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		_, cidr, err := net.ParseCIDR(value)
		if err != nil {
			continue
		}
		switch key {
		case "FLANNEL_NETWORK":
			p.network = ip.FromIPNet(cidr)
		case "FLANNEL_SUBNET":
			p.subnet = ip.FromIPNet(cidr)
		case "FLANNEL_IPV6_NETWORK":
			p.network6 = ip.FromIP6Net(cidr)
		case "FLANNEL_IPV6_SUBNET":
			p.subnet6 = ip.FromIP6Net(cidr)
		}
	}
	return p
}

// serveHealth answers /healthz and /readyz until ctx ends. It is started when the network is up, so both mean the same.
func serveHealth(ctx context.Context, address string, port int) {
	mux := http.NewServeMux()
	ok := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }
	mux.HandleFunc("/healthz", ok)
	mux.HandleFunc("/readyz", ok)
	server := &http.Server{
		Addr:              net.JoinHostPort(address, strconv.Itoa(port)),
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		klog.Errorf("health endpoint %s: %v", server.Addr, err)
	}
}
