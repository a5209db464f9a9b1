package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadSubnetFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subnet.env")
	text := "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_IPV6_SUBNET=fd00:1::1/64\nFLANNEL_MTU=1450\nnonsense\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := readSubnetFile(path)
	if got := p.network.String() + " " + p.subnet.String() + " " + p.subnet6.String(); got != "10.244.0.0/16 10.244.3.0/24 fd00:1::/64" {
		t.Errorf("read %s", got)
	}
	if missing := readSubnetFile(path + ".none"); !missing.subnet6.Empty() || missing.network.PrefixLen != 0 {
		t.Errorf("a missing file gave %+v", missing)
	}
}

func TestParseOptions(t *testing.T) {
	o, err := parseOptions([]string{"--ip-masq", "--kube-subnet-mgr", "--iface=eth0", "--iface=eth1"})
	if err != nil || !o.ipMasq || o.ifaces.String() != "eth0,eth1" || o.subnetFile != "/run/flannel/subnet.env" {
		t.Errorf("upstream's arguments gave %+v, %v", o, err)
	}
	for args, want := range map[string]string{
		"--ip-masq":                               "--kube-subnet-mgr",
		"--kube-subnet-mgr --iptables-resync=0":   "not positive",
		"--kube-subnet-mgr extra":                 `"extra"`,
		"--kube-subnet-mgr --etcd-endpoints=http": "etcd-endpoints",
	} {
		if _, err := parseOptions(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", args, err, want)
		}
	}
}
