package cmd

import (
	"bytes"
	"testing"

	"github.com/myadm/myadm/fetch"
	"github.com/myadm/myadm/release"
)

func TestProofs(t *testing.T) {
	of := func(name, arch string, proof fetch.Proof) fetch.Verified {
		return fetch.Verified{Item: release.Item{Name: name, Version: "v1", Arch: arch}, Proof: proof}
	}
	for _, tt := range []struct {
		verified []fetch.Verified
		want     string
	}{
		{nil, ""},
		{
			[]fetch.Verified{
				of("containerd", "amd64", fetch.ByChecksum), of("kubectl", "amd64", fetch.BySignature), of("kubelet", "amd64", fetch.BySignature),
				of("kubelet", "arm64", fetch.BySignature), of("pause", "amd64", fetch.BySignature), of("pause", "arm64", fetch.Unsigned),
			},
			"verified by signature: kubectl, kubelet, pause\n" +
				"verified by checksum, as the makers sign otherwise or not at all: containerd\n" +
				"warning: verified by checksum, as the signature is missing: pause\n",
		},
	} {
		var out bytes.Buffer
		if proofsOf(tt.verified).print(&out); out.String() != tt.want {
			t.Errorf("got\n%swant\n%s", out.String(), tt.want)
		}
	}
}
