package upgrade

import (
	"fmt"
	"strings"
	"testing"
)

func TestCheckKubelet(t *testing.T) {
	tests := []struct {
		api, kubelet string
		err          string // part of it; empty: allowed
	}{
		{"v1.37.2", "v1.37.2", ""},
		{"v1.37.2", "v1.37.0", ""},
		{"v1.37.2", "v1.37.5", ""}, // patches do not count
		{"v1.37.2", "v1.36.3", ""},
		{"v1.37.2", "v1.34.0", ""},
		{"1.37.2", "1.37.2", ""},
		{"v1.37.2", "v1.38.0", "kubelet v1.38.0 is newer than the API server v1.37.2; hint: upgrade the control plane first"},
		{"v1.37.2", "v1.33.9", "kubelet v1.33.9 is more than 3 minors older than the API server v1.37.2; hint: use a bundle of v1.37.2"},
		{"v1.37.2", "v2.37.2", "is newer"},
		{"v2.0.0", "v1.37.2", "older"},
		{"", "v1.37.2", `API server version ""`},
		{"v1.37.2", "new", `kubelet version "new"`},
	}
	for _, tt := range tests {
		t.Run(tt.api+" "+tt.kubelet, func(t *testing.T) {
			err := CheckKubelet(tt.api, tt.kubelet)
			if tt.err == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
		})
	}
}

func TestCheckSkew(t *testing.T) {
	const api, manager, scheduler, kubelet, proxy = "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"
	tests := []struct {
		name, target string
		running      []Running
		want         []string
	}{
		{"all alike", "v1.37.2", []Running{
			{api, "cp-1", "v1.36.3"}, {manager, "cp-1", "v1.36.3"}, {scheduler, "cp-1", "v1.36.3"}, {kubelet, "cp-1", "v1.36.3"}, {proxy, "cp-1", "v1.36.3"}}, nil},
		{"nothing to do", "v1.37.2", []Running{{api, "cp-1", "v1.37.2"}, {kubelet, "cp-1", "v1.37.2"}}, nil},
		{"interrupted after the first control plane", "v1.37.2", []Running{
			{api, "cp-1", "v1.37.2"}, {manager, "cp-1", "v1.37.2"}, {scheduler, "cp-1", "v1.37.2"}, {kubelet, "cp-1", "v1.37.2"}, {proxy, "cp-1", "v1.36.3"},
			{api, "cp-2", "v1.36.3"}, {manager, "cp-2", "v1.36.3"}, {scheduler, "cp-2", "v1.36.3"}, {kubelet, "cp-2", "v1.36.3"}, {kubelet, "w-1", "v1.36.3"}}, nil},
		{"interrupted before the components followed", "v1.37.2", []Running{{api, "cp-1", "v1.37.2"}, {manager, "cp-1", "v1.36.3"}, {scheduler, "cp-1", "v1.36.3"}}, nil},
		{"patches do not count", "v1.37.2", []Running{{api, "cp-1", "v1.37.0"}, {manager, "cp-1", "v1.37.2"}, {kubelet, "w-1", "v1.37.5"}, {proxy, "w-1", "v1.37.5"}}, nil},
		{"old kubelets and proxies", "v1.37.2", []Running{{api, "cp-1", "v1.36.3"}, {kubelet, "w-1", "v1.34.0"}, {proxy, "w-1", "v1.34.0"}}, nil},
		{"components without a rule", "v1.37.2", []Running{{api, "cp-1", "v1.36.3"}, {"etcd", "cp-1", "v3.9.0"}}, nil},

		{"API servers too far apart", "v1.37.2", []Running{{api, "cp-1", "v1.37.2"}, {api, "cp-2", "v1.35.4"}}, []string{
			"kube-apiserver v1.37.2 on cp-1 is more than a minor newer than the API server v1.35.4; hint: upgrade the control planes of v1.35.4 first",
			"kube-apiserver v1.35.4 on cp-2 is more than a minor older than v1.37.2; hint: upgrade it to at least v1.36 first"}},
		{"a worker newer than the oldest API server", "v1.37.2", []Running{{api, "cp-1", "v1.37.2"}, {api, "cp-2", "v1.36.3"}, {kubelet, "w-1", "v1.37.2"}}, []string{
			"kubelet v1.37.2 on w-1 is newer than the API server v1.36.3; hint: put a kubelet of v1.36 in its place first"}},
		{"a proxy newer than the oldest API server", "v1.37.2", []Running{{api, "cp-1", "v1.37.2"}, {api, "cp-2", "v1.36.3"}, {proxy, "cp-1", "v1.37.2"}}, []string{
			"kube-proxy v1.37.2 on cp-1 is newer than the API server v1.36.3; hint: put a kube-proxy of v1.36 in its place first"}},
		{"components newer than the API server beside them", "v1.37.2", []Running{{api, "cp-1", "v1.36.3"}, {api, "cp-2", "v1.37.2"}, {manager, "cp-1", "v1.37.2"}, {scheduler, "cp-1", "v1.37.0"}, {kubelet, "cp-1", "v1.37.2"}}, []string{
			"kube-controller-manager v1.37.2 on cp-1 is newer", "kube-scheduler v1.37.0 on cp-1 is newer", "kubelet v1.37.2 on cp-1 is newer"}},
		{"components too old", "v1.37.2", []Running{{api, "cp-1", "v1.36.3"}, {manager, "cp-1", "v1.35.4"}, {scheduler, "cp-1", "v1.35.4"}, {kubelet, "cp-1", "v1.33.9"}, {proxy, "cp-1", "v1.33.9"}}, []string{
			"kube-controller-manager v1.35.4 on cp-1 is more than a minor older than v1.37.2; hint: upgrade it to at least v1.36 first",
			"kube-scheduler v1.35.4 on cp-1 is more than a minor older than v1.37.2; hint: upgrade it to at least v1.36 first",
			"kubelet v1.33.9 on cp-1 is more than 3 minors older than v1.37.2; hint: upgrade it to at least v1.34 first",
			"kube-proxy v1.33.9 on cp-1 is more than 3 minors older than v1.37.2; hint: upgrade it to at least v1.34 first"}},
		{"a kubelet that is old enough today, but not for the target", "v1.37.2", []Running{{api, "cp-1", "v1.36.3"}, {kubelet, "w-1", "v1.33.0"}}, []string{"kubelet v1.33.0 on w-1 is more than 3 minors older"}},
		{"another major", "v2.0.0", []Running{{api, "cp-1", "v1.36.3"}}, []string{"is more than a minor older than v2.0.0; hint: upgrade it to at least v2.0 first"}},
		{"versions that are none", "v1.37.2", []Running{{api, "cp-1", "v1.36.3"}, {kubelet, "w-1", ""}, {proxy, "w-1", "v1.33.0"}}, []string{
			`version "" of kubelet on w-1: `, "kube-proxy v1.33.0 on w-1 is more than 3 minors older"}},
		{"no API server", "v1.37.2", []Running{{kubelet, "w-1", "v1.36.3"}}, []string{"the version of no API server is known; hint: start one"}},
		{"no target", "latest", []Running{{api, "cp-1", "v1.36.3"}}, []string{`target version "latest": `}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			errs := CheckSkew(tt.target, tt.running)
			ok := len(errs) == len(tt.want)
			for i := 0; ok && i < len(errs); i++ {
				ok = strings.Contains(fmt.Sprint(errs[i]), tt.want[i])
			}
			if !ok {
				t.Errorf("got  %q\nwant %q", errs, tt.want)
			}
		})
	}
}

func TestEtcdMove(t *testing.T) {
	tests := []struct {
		have, want string
		move       bool
		err        string
	}{
		{"3.6.8-0", "3.7.0-0", true, ""},
		{"3.6.8-0", "3.6.10-0", true, ""},
		{"3.6.8-0", "3.6.8-0", false, ""},
		{"3.6.8-0", "3.6.8-1", true, ""},
		{"3.6.8-9", "3.6.8-10", true, ""},
		{"3.6.8-1", "3.6.8-0", false, ""},
		{"3.6.8", "3.6.8-1", false, ""}, // somebody's own image of the same etcd
		{"v3.6.8", "3.7.0-0", true, ""},
		{"3.6.8-1", "3.6.8", false, ""},
		{"3.7.1-0", "3.7.0-0", false, ""},
		{"3.7.0-0", "3.6.8-0", false, ""},
		{"4.0.0-0", "3.7.0-0", false, ""},
		{"3.5.24-0", "3.7.0-0", false, "from etcd 3.5.24-0 to 3.7.0-0 an upgrade would skip a minor version; hint: upgrade etcd to 3.6 first"},
		{"3.6.8-0", "4.0.0-0", false, "skip"},
		{"latest", "3.7.0-0", false, `the tag "latest" of an etcd image is not a version; hint: use an image with a tag such as 3.7.0-0`},
		{"3.6.8-0", "", false, `the tag "" of an etcd image`},
		{"3.6.8-debian-0", "3.7.0-0", false, "is not a version"},
	}
	for _, tt := range tests {
		t.Run(tt.have+" "+tt.want, func(t *testing.T) {
			move, err := EtcdMove(tt.have, tt.want)
			if move != tt.move || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %t, %v; want %t, %q", move, err, tt.move, tt.err)
			}
		})
	}
}
