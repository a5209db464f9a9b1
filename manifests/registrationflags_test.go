package manifests_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
)

func TestRegistrationFlags(t *testing.T) {
	labels := config.Arg{Name: "node-labels", Value: "disk=ssd,example.org/zone=a"}
	taints := config.Arg{Name: "register-with-taints", Value: "node-role.kubernetes.io/control-plane:NoSchedule,gpu=a:NoExecute"}
	other := config.Arg{Name: "node-ip", Value: "10.0.0.1"}
	for _, want := range [][]config.Arg{nil, {labels}, {labels, taints}} {
		f, err := manifests.KubeletFlagsEnv(append([]config.Arg{other}, want...))
		if err != nil {
			t.Fatal(err)
		}
		got, ok := manifests.RegistrationFlags(f.Data)
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("%s: %t (-want +got):\n%s", f.Data, ok, diff)
		}
	}
	if got, ok := manifests.RegistrationFlags([]byte("KUBELET_KUBEADM_ARGS=\"\"\n")); ok {
		t.Errorf("of an edited file: %v", got)
	}
}
