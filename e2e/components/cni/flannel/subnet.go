package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// subnetEnv is flanneld's file: KEY=VALUE lines, the IPv4 and the IPv6 part each optional, not both missing.
type subnetEnv struct {
	networks, subnets []string // CIDRs; of the cluster's pods, of this node's pods
	mtu               int
	ipMasq            bool // flanneld masquerades
}

// waitSubnet polls, since the directory may not exist yet either and a poll of one file costs nothing.
func waitSubnet(ctx context.Context, path string) (*subnetEnv, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		env, err := readSubnet(path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return env, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w after waiting %s; hint: see the logs of this node's kube-flannel pod", err, subnetFileTimeout)
		}
	}
}

func readSubnet(path string) (*subnetEnv, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	env, err := parseSubnet(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return env, nil
}

func parseSubnet(data []byte) (*subnetEnv, error) {
	env := &subnetEnv{}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		key, value, found := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if !found {
			continue
		}
		var err error
		switch key {
		case "FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK":
			err = appendCIDR(&env.networks, value)
		case "FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET":
			err = appendCIDR(&env.subnets, value)
		case "FLANNEL_MTU":
			env.mtu, err = strconv.Atoi(value)
		case "FLANNEL_IPMASQ":
			env.ipMasq, err = strconv.ParseBool(value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	if len(env.subnets) == 0 || len(env.networks) == 0 || env.mtu <= 0 {
		return nil, errors.New("no subnet, network or MTU in it")
	}
	return env, nil
}

// appendCIDR takes one prefix or several separated by commas. FLANNEL_SUBNET holds the gateway's address, host-local
// wants the network's.
func appendCIDR(to *[]string, value string) error {
	for text := range strings.SplitSeq(value, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return err
		}
		*to = append(*to, prefix.Masked().String())
	}
	return nil
}
