package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProxyURLHidesItsSecret(t *testing.T) {
	const secret = "s3cret"
	for text, want := range map[string]string{
		"http://proxy:3128":              "http://proxy:3128",
		"http://ops:s3cret@proxy:3128":   "http://***@proxy:3128",
		"http://s3cret@proxy:3128":       "http://***@proxy:3128",
		"http://ops:s3cret%zz@proxy":     "(hidden)",
		"ops:s3cret@proxy:3128":          "(hidden)",
		"http:/ops:s3cret@proxy:3128":    "(hidden)",
		"http://ops:s3cret@proxy/x?y=@z": "http://***@proxy",
	} {
		p := ProxyURL(text)
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "proxy", p)
		for _, got := range []string{p.String(), fmt.Sprintf("%v %s %q %#v", p, p, p, Proxy{HTTPProxy: p}), log.String()} {
			if strings.Contains(got, secret) || !strings.Contains(got, want) {
				t.Errorf("%s is shown as %s, want %s", text, got, want)
			}
		}
		// The document itself keeps it.
		if data, err := json.Marshal(Proxy{HTTPProxy: p}); err != nil || strings.Contains(text, secret) && !strings.Contains(string(data), secret) {
			t.Errorf("%s is written as %s, %v", text, data, err)
		}
	}
}

func TestValidateProxy(t *testing.T) {
	tests := []struct{ name, spec, want string }{
		{"as it should be", `proxy: {httpProxy: "http://ops:a%40b@proxy.example.org:3128/", httpsProxy: "socks5://[fd00::1]:1080", noProxy: [.example.org, "*.a", example.org, 10.0.0.0/8, 10.0.0.1, "10.0.0.1:80", "::1", "[::1]:80", "*", fd00::/8]}`, ""},
		{"nothing", `proxy: {}`, ""},
		{"wrong URLs", `proxy: {httpProxy: "ops:s3cret@proxy", httpsProxy: "http://ops:s3cret%@proxy"}`, `
4:10: spec.proxy.httpProxy: it is not a URL; hint: write http://host:port, or http://user:password@host:port with %-escapes for what is not a letter or a digit
4:41: spec.proxy.httpsProxy: it is not a URL; hint: write http://host:port, or http://user:password@host:port with %-escapes for what is not a letter or a digit`},
		{"more wrong URLs", `proxy: {httpProxy: "ftp://proxy", httpsProxy: "http://proxy:0"}`, `
4:10: spec.proxy.httpProxy: it begins with none of http://, https:// and socks5://; hint: write http://host:port, or http://user:password@host:port with %-escapes for what is not a letter or a digit
4:36: spec.proxy.httpsProxy: it names no host; hint: write http://host:port, or http://user:password@host:port with %-escapes for what is not a letter or a digit`},
		{"still more", `proxy: {httpProxy: "http://proxy/x", httpsProxy: "http://ops:a b@proxy"}`, `
4:10: spec.proxy.httpProxy: it is more than a host and a port; hint: write http://host:port, or http://user:password@host:port with %-escapes for what is not a letter or a digit
4:39: spec.proxy.httpsProxy: it is not a URL; hint: write http://host:port, or http://user:password@host:port with %-escapes for what is not a letter or a digit`},
		{"without a proxy", `proxy: {noProxy: [a]}`, `4:10: spec.proxy.noProxy: there is no proxy; hint: set httpProxy or httpsProxy, or remove it`},
		{"no hosts", `proxy: {httpProxy: "http://p", noProxy: ["a,b", "", "a b", "http://a", "a:", "a:x"]}`, `
4:43: spec.proxy.noProxy[0]: it is nothing that can be reached without a proxy; hint: write one host, .domain, address or network, such as .example.org or 10.0.0.0/8
4:50: spec.proxy.noProxy[1]: it is nothing that can be reached without a proxy; hint: write one host, .domain, address or network, such as .example.org or 10.0.0.0/8
4:54: spec.proxy.noProxy[2]: it is nothing that can be reached without a proxy; hint: write one host, .domain, address or network, such as .example.org or 10.0.0.0/8
4:61: spec.proxy.noProxy[3]: it is nothing that can be reached without a proxy; hint: write one host, .domain, address or network, such as .example.org or 10.0.0.0/8
4:73: spec.proxy.noProxy[4]: it is nothing that can be reached without a proxy; hint: write one host, .domain, address or network, such as .example.org or 10.0.0.0/8
4:79: spec.proxy.noProxy[5]: it is nothing that can be reached without a proxy; hint: write one host, .domain, address or network, such as .example.org or 10.0.0.0/8`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("c.yaml", []byte(head+"spec:\n"+indent(tt.spec)))
			if err != nil {
				t.Fatalf("Parse: %v", err)
			}
			checkMessages(t, Validate(c), tt.want)
			if err := Validate(c); err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestNoProxyOf(t *testing.T) {
	tests := []struct {
		name, spec string
		want       []string
	}{
		{"one control plane", `hosts: [{address: 10.0.0.1, roles: [control-plane]}, {address: w-1, advertiseAddress: 10.0.0.2}]
proxy: {httpProxy: "http://p", noProxy: [.example.org, 10.0.0.2]}`, []string{
			".example.org", "10.0.0.2", "localhost", "127.0.0.0/8", "::1", "10.244.0.0/16", "10.96.0.0/16", ".svc", ".cluster.local", "10.0.0.1", "w-1"}},
		{"an endpoint, another domain, and two families", `controlPlaneEndpoint: api.example.org:443
networking: {podSubnet: "10.244.0.0/16,fd00::/48", serviceSubnet: "10.96.0.0/16,fd01::/112", dnsDomain: k8s.example}
hosts: [{address: 10.0.0.1, roles: [control-plane]}]`, []string{
			"localhost", "127.0.0.0/8", "::1", "10.244.0.0/16", "fd00::/48", "10.96.0.0/16", "fd01::/112", ".svc", ".k8s.example", "10.0.0.1", "api.example.org"}},
		{"a virtual IP", `loadBalancer: {virtualIP: 10.0.0.100}
hosts: [{address: 10.0.0.1, roles: [control-plane]}]`, []string{
			"localhost", "127.0.0.0/8", "::1", "10.244.0.0/16", "10.96.0.0/16", ".svc", ".cluster.local", "10.0.0.1", "10.0.0.100"}},
		{"load balancers of the nodes' own", `hosts: [{address: 10.0.0.1, roles: [control-plane]}, {address: 10.0.0.2, roles: [control-plane]}]`, []string{
			"localhost", "127.0.0.0/8", "::1", "10.244.0.0/16", "10.96.0.0/16", ".svc", ".cluster.local", "10.0.0.1", "10.0.0.2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, head+"spec:\n"+indent(tt.spec))
			SetDefaults(c)
			if diff := cmp.Diff(tt.want, NoProxyOf(c)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(c.Spec.Proxy.NoProxy) > 2 {
				t.Errorf("the document was changed: %q", c.Spec.Proxy.NoProxy)
			}
		})
	}
}

func FuzzProxyURL(f *testing.F) {
	for _, s := range []string{"http://proxy:3128", "http://ops:pw@proxy:3128", "ops:pw@proxy", "socks5://[::1]:1080", "http://a@b@c", "http://%40@x", "//a:b@c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := ProxyURL(text)
		shown := p.String()
		if before, _, ok := strings.Cut(text, "@"); ok && shown == text {
			t.Fatalf("%q is shown with %q", text, before)
		}
		if checkProxy(p) == nil && strings.ContainsAny(text, "\n\x00 ") {
			t.Fatalf("%q is taken", text)
		}
	})
}
