package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const subnetFile = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_IPV6_NETWORK=fd00::/48\n" +
	"FLANNEL_IPV6_SUBNET=fd00:0:0:3::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"

func TestDelegate(t *testing.T) {
	env, err := parseSubnet([]byte(subnetFile))
	if err != nil {
		t.Fatal(err)
	}
	conf, err := parseConfig([]byte(`{"cniVersion":"1.0.0","name":"cbr0","type":"flannel",
		"delegate":{"hairpinMode":true,"isDefaultGateway":true,"mtu":1400},"runtimeConfig":{"portMappings":[]}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := conf.delegate(env)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"cniVersion":"1.0.0","hairpinMode":true,"ipMasq":false,"ipam":{` +
		`"ranges":[[{"subnet":"10.244.3.0/24"}],[{"subnet":"fd00:0:0:3::/64"}]],` +
		`"routes":[{"dst":"10.244.0.0/16"},{"dst":"fd00::/48"}],"type":"host-local"},"isDefaultGateway":true,` +
		`"isGateway":true,"mtu":1400,"name":"cbr0","runtimeConfig":{"portMappings":[]},"type":"bridge"}`
	if string(got) != want {
		t.Errorf("delegate\n%s\nwant\n%s", got, want)
	}
}

func TestConfigRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                                  "network configuration",
		`{"delegate":{"type":7}}`:            "delegate.type",
		`{"delegate":{"ipam":{"type":"x"}}}`: "delegate.ipam",
	} {
		if _, err := parseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

func TestWaitSubnet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flannel", "subnet.env")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	time.AfterFunc(150*time.Millisecond, func() {
		_ = os.Mkdir(filepath.Dir(path), 0o755)
		_ = os.WriteFile(path+".new", []byte(subnetFile), 0o644)
		_ = os.Rename(path+".new", path)
	})
	env, err := waitSubnet(ctx, path)
	if err != nil || env.mtu != 1450 || !env.ipMasq {
		t.Errorf("a file that came late gave %+v, %v", env, err)
	}
	short, cancelShort := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancelShort()
	if _, err := waitSubnet(short, path+".none"); err == nil || !strings.Contains(err.Error(), "hint:") {
		t.Errorf("a file that never came gave %v", err)
	}
}

func FuzzParseSubnet(f *testing.F) {
	f.Add([]byte(subnetFile))
	f.Add([]byte("FLANNEL_SUBNET=10.0.0.1/33"))
	f.Add([]byte("FLANNEL_NETWORK=,\nFLANNEL_MTU=-1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		env, err := parseSubnet(data)
		if err == nil && (len(env.subnets) == 0 || len(env.networks) == 0 || env.mtu <= 0) {
			t.Errorf("%q gave %+v", data, env)
		}
	})
}
