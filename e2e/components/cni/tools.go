//go:build tools

// Package components pins the CNI plugins that a node needs: containerd's loopback, and what the flannel plugin delegates
// to (bridge with host-local addresses, portmap for hostPort).
package components

import (
	_ "github.com/containernetworking/plugins/plugins/ipam/host-local"
	_ "github.com/containernetworking/plugins/plugins/main/bridge"
	_ "github.com/containernetworking/plugins/plugins/main/loopback"
	_ "github.com/containernetworking/plugins/plugins/meta/portmap"
)
