//go:build tools

// Package components pins CoreDNS with the plugins of its default plugin.cfg.
package components

import _ "github.com/coredns/coredns"
