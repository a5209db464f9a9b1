package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Proxy is the way of the hosts to the outside: what their containerd and their kubelet have in the environment. The zero
// Proxy is none.
type Proxy struct {
	HTTPProxy  ProxyURL `json:"httpProxy,omitempty"`  // the proxy for http: http://[user:password@]host:port, or https or socks5
	HTTPSProxy ProxyURL `json:"httpsProxy,omitempty"` // the proxy for https, likewise
	NoProxy    []string `json:"noProxy,omitempty"`    // hosts, .domains, addresses and networks that are reached without one; the cluster's own are added
}

// ProxyURL is http://[user:password@]host:port, or https or socks5. It is a secret: formatted, it hides who logs in.
type ProxyURL string

// String is the URL without a name and a password.
func (p ProxyURL) String() string {
	u, err := url.Parse(string(p))
	if err != nil {
		return "(hidden)" // no telling what in it is a password
	}
	if u.User == nil && !strings.Contains(string(p), "@") {
		return string(p)
	}
	if u.Host == "" {
		return "(hidden)"
	}
	return u.Scheme + "://***@" + u.Host
}

// GoString is String, for %#v.
func (p ProxyURL) GoString() string { return strconv.Quote(p.String()) }

// Given reports whether there is a proxy at all.
func (p Proxy) Given() bool { return p.HTTPProxy != "" || p.HTTPSProxy != "" }

// NoProxyOf is what hosts reach without the document's proxy: what the document says itself, then the host itself, pods and
// services, every host's addresses, and the endpoint. c has its defaults. Networks are written with their mask, which Go's
// programs read; others may not.
func NoProxyOf(c *Cluster) []string {
	all := slices.Clone(c.Spec.Proxy.NoProxy)
	add := func(s string) {
		if s != "" && !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	for _, own := range []string{"localhost", "127.0.0.0/8", "::1"} {
		add(own)
	}
	for _, p := range slices.Concat(c.PodSubnets(), c.ServiceSubnets()) {
		add(p.String())
	}
	add(".svc")
	add("." + c.Spec.Networking.DNSDomain)
	for _, h := range c.Spec.Hosts {
		add(h.Address)
		add(h.AdvertiseAddress)
	}
	add(hostOf(c.Endpoint())) // which is the virtual IP, if there is one; a node's own load balancer is on the host itself
	return all
}

// hostOf is the host of host:port, and empty when there is none.
func hostOf(endpoint string) string {
	host, _, err := splitEndpoint(endpoint)
	if err != nil {
		return ""
	}
	return host
}

// proxySchemes are those that Go's programs, as which containerd and the kubelet are, know how to speak to.
var proxySchemes = []string{"http", "https", "socks5"}

func (v *validator) proxy() {
	const path = "spec.proxy"
	p := v.c.Spec.Proxy
	for _, f := range []struct {
		name  string
		value ProxyURL
	}{{"httpProxy", p.HTTPProxy}, {"httpsProxy", p.HTTPSProxy}} {
		if err := checkProxy(f.value); err != nil {
			v.wrap(path+"."+f.name, err)
		}
	}
	if len(p.NoProxy) > 0 && !p.Given() {
		v.errorf(path+".noProxy", "set httpProxy or httpsProxy, or remove it", "there is no proxy")
	}
	for i, s := range p.NoProxy {
		if !isNoProxy(s) {
			v.errorf(fmt.Sprintf("%s.noProxy[%d]", path, i), "write one host, .domain, address or network, such as .example.org or 10.0.0.0/8", "it is nothing that can be reached without a proxy")
		}
	}
}

// checkProxy says what is wrong with a proxy, without showing it.
func checkProxy(p ProxyURL) error {
	const hint = "; hint: write http://host:port, or http://user:password@host:port with %-escapes for what is not a letter or a digit"
	if p == "" {
		return nil
	}
	u, err := url.Parse(string(p))
	switch {
	case err != nil || u.Opaque != "":
		return errors.New("it is not a URL" + hint)
	case !slices.Contains(proxySchemes, u.Scheme):
		return errors.New("it begins with none of http://, https:// and socks5://" + hint)
	case !isHostName(u.Hostname()) || !validPort(u.Port()):
		return errors.New("it names no host" + hint)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(string(p), "#"):
		return errors.New("it is more than a host and a port" + hint)
	case strings.ContainsFunc(string(p), func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("it holds a blank, or a letter that is not ASCII" + hint)
	}
	return nil
}

// validPort takes none, too.
func validPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return s == "" || err == nil && port > 0
}

// isNoProxy reports what Go's programs take between the commas of NO_PROXY.
// Source: https://pkg.go.dev/golang.org/x/net/http/httpproxy#Config
func isNoProxy(s string) bool {
	if _, err := netip.ParsePrefix(s); err == nil {
		return true
	}
	if s == "*" {
		return true
	}
	host, port := s, ""
	if _, err := netip.ParseAddr(s); err != nil {
		if i := strings.LastIndexByte(s, ':'); i >= 0 {
			host, port = s[:i], s[i+1:]
			if port == "" {
				return false
			}
		}
	}
	host = strings.TrimPrefix(strings.TrimPrefix(strings.Trim(host, "[]"), "*"), ".")
	return isHostName(host) && validPort(port)
}
