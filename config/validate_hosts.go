package config

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

var (
	roles   = []Role{RoleControlPlane, RoleWorker}
	effects = []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}
)

// userName is more than any useradd takes, and nothing that ssh could take for an option or another argument.
var userName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@\\+-]*$`)

// sshName is a host as ssh_config may name one: wider than DNS, since it can be an alias.
var sshName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

func (v *validator) hosts(wantControlPlane bool) {
	hosts := v.c.Spec.Hosts
	names, addresses, advertised := unique{v, map[string]int{}}, unique{v, map[string]int{}}, unique{v, map[string]int{}}
	for i, h := range hosts {
		at := fmt.Sprintf("spec.hosts[%d]", i)
		if h.Name != "" {
			v.dnsName(at+".name", h.Name)
			names.check(i, h.Name, at+".name", "name")
		}
		if h.Address == "" && len(hosts) > 1 {
			v.errorf(at+".address", "write the name or the address at which SSH reaches the host", "is missing")
		}
		if h.Address != "" {
			v.address(at+".address", h.Address)
			port := h.SSH.Port
			if port == 0 {
				port = 22
			}
			// Behind two bastions the same address can be two hosts.
			addresses.check(i, fmt.Sprintf("%s %d %s", strings.ToLower(h.Address), port, h.SSH.Bastion), at+".address", "address and port")
		}
		if addr := v.advertise(at+".advertiseAddress", h.AdvertiseAddress); addr.IsValid() {
			advertised.check(i, addr.String(), at+".advertiseAddress", "advertise address")
		}
		v.roles(at+".roles", h.Roles)
		v.ssh(at+".ssh", h.SSH)
		v.labels(at+".labels", h.Labels)
		v.taints(at+".taints", h.Taints)
	}
	isControlPlane := func(h Host) bool { return h.HasRole(RoleControlPlane) }
	if wantControlPlane && len(hosts) > 0 && !slices.ContainsFunc(hosts, isControlPlane) {
		v.errorf("spec.hosts", "give one host roles: [control-plane]", "no host is a control plane")
	}
}

// unique finds what two hosts have in common and must not.
type unique struct {
	v    *validator
	seen map[string]int // the index of the first host that has it
}

func (u unique) check(i int, key, path, what string) {
	if first, again := u.seen[key]; again {
		u.v.errorf(path, "each host stands in the list once", "has the same %s as hosts[%d]", what, first)
		return
	}
	u.seen[key] = i
}

// address checks where SSH goes. An IP must not be one that the cluster gives out itself.
func (v *validator) address(path, s string) {
	if addr, err := netip.ParseAddr(s); err == nil {
		v.notInSubnets(path, addr)
		return
	}
	if sshName.MatchString(s) {
		return
	}
	hint := "write a host name or an IP address"
	switch user, rest, at := strings.Cut(s, "@"); {
	case at:
		hint = fmt.Sprintf("write address: %s and ssh.user: %s", rest, user)
	case strings.HasPrefix(s, "["):
		hint = "write IPv6 addresses without brackets, and a port as ssh.port"
	case strings.Contains(s, ":"):
		hint = "write the port as ssh.port"
	}
	v.errorf(path, hint, "%q is not an address", s)
}

func (v *validator) advertise(path, s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(s)
	switch {
	case err != nil || addr.Zone() != "" || addr.Is4In6():
		v.errorf(path, "write the IP address at which the other nodes reach the host", "%q is not an IP address", s)
		return netip.Addr{}
	case addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr.IsLinkLocalUnicast():
		v.errorf(path, "write the IP address at which the other nodes reach the host", "%s cannot be reached from other nodes", s)
	}
	v.notInSubnets(path, addr)
	// The API server refuses an advertise address of another family than its primary service subnet.
	if services := v.c.ServiceSubnets(); len(services) > 0 && !sameFamily(addr, services[0].Addr()) {
		v.errorf(path, "use addresses of one IP family, or put the other service subnet first", "%s is of another IP family than the primary service subnet %s", addr, services[0])
	}
	return addr
}

func (v *validator) notInSubnets(path string, addr netip.Addr) {
	addr = addr.WithZone("") // no network contains an address with a zone
	for _, list := range []struct {
		what     string
		networks []netip.Prefix
	}{{"pod", v.c.PodSubnets()}, {"service", v.c.ServiceSubnets()}} {
		for _, p := range list.networks {
			if p.Contains(addr) {
				v.errorf(path, "choose another "+list.what+"Subnet", "%s lies in the %s subnet %s", addr, list.what, p)
			}
		}
	}
}

func (v *validator) roles(path string, given []Role) {
	if len(given) == 0 {
		v.errorf(path, "use "+oneOf(roles)+", or leave it out for worker", "is empty")
	}
	for i, r := range given {
		at := fmt.Sprintf("%s[%d]", path, i)
		if hint, ok := among(r, roles); !ok {
			v.errorf(at, hint, "%q is not a role", r)
		} else if slices.Contains(given[:i], r) {
			v.errorf(at, "keep one of them", "the role %s is here twice", r)
		}
	}
}

func (v *validator) ssh(path string, s SSH) {
	if s.Port < 0 || s.Port > 65535 {
		v.errorf(path+".port", "use a number from 1 to 65535", "%d is not a port", s.Port)
	}
	if s.User != "" && !userName.MatchString(s.User) {
		v.errorf(path+".user", "", "%q is not a user's name", s.User)
	}
	if s.HostKey != "" {
		if _, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(s.HostKey)); err != nil || len(rest) > 0 { // never shown: it may be a private key
			v.errorf(path+".hostKey", "copy one line such as \"ssh-ed25519 AAAA...\" from the host's /etc/ssh/ssh_host_ed25519_key.pub", "is not a public key")
		}
	}
	if s.Bastion == "" {
		return
	}
	for jump := range strings.SplitSeq(s.Bastion, ",") {
		if !isJump(jump) {
			v.errorf(path+".bastion", "write [user@]host[:port], and commas between several", "%q is not a bastion", jump)
		}
	}
}

// isJump reports [user@]host[:port].
func isJump(s string) bool {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		if !userName.MatchString(s[:i]) {
			return false
		}
		s = s[i+1:]
	}
	host, _, err := splitEndpoint(s)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err == nil || sshName.MatchString(host)
}

func (v *validator) labels(path string, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		value := labels[key]
		at := fmt.Sprintf("%s[%s]", path, key)
		if problems := validation.IsQualifiedName(key); len(problems) > 0 {
			v.errorf(at, "write [domain/]name", "the label's key is not valid: %s", problems[0])
		}
		if problems := validation.IsValidLabelValue(value); len(problems) > 0 {
			v.errorf(at, "", "%q is not a label's value: %s", value, problems[0])
		}
	}
}

func (v *validator) taints(path string, taints []corev1.Taint) {
	seen := map[string]bool{}
	for i, t := range taints {
		at := fmt.Sprintf("%s[%d]", path, i)
		if problems := validation.IsQualifiedName(t.Key); len(problems) > 0 {
			v.errorf(at+".key", "write [domain/]name", "%q is not a taint's key: %s", t.Key, problems[0])
		}
		if problems := validation.IsValidLabelValue(t.Value); len(problems) > 0 {
			v.errorf(at+".value", "", "%q is not a taint's value: %s", t.Value, problems[0])
		}
		if hint, ok := among(t.Effect, effects); !ok {
			v.errorf(at+".effect", hint, "%q is not an effect", t.Effect)
		}
		id := t.Key + ":" + string(t.Effect)
		if seen[id] {
			v.errorf(at, "keep one of them", "%s is here twice", id)
		}
		seen[id] = true
	}
}
