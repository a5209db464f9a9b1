package upgrade

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
)

func TestRemovalsHaveNoHoles(t *testing.T) {
	for _, minor := range config.Supported()[1:] {
		row := removals[minor]
		for _, flags := range row.flags {
			for flag := range flags {
				if strings.HasPrefix(flag, "-") || strings.Contains(flag, "_") {
					t.Errorf("%s: %s is not how flags are looked up", minor, flag)
				}
			}
		}
		if len(row.flags) == 0 || len(row.gates) == 0 || len(row.locked) == 0 {
			t.Errorf("%s: nothing is known of what it removed: %+v", minor, row)
		}
	}
}

func TestRemoved(t *testing.T) {
	// What refuses is each component of 1.37.2, and etcd 3.7.2, asked by hand.
	tests := []struct {
		name, component string
		args            []config.Arg
		gates           map[string]bool
		want            []string
	}{
		{"nothing", "kube-apiserver", nil, nil, nil},
		{"flags and gates that are known", "kube-apiserver",
			[]config.Arg{{Name: "v", Value: "2"}, {Name: "feature-gates", Value: "AllAlpha=false,NodeDeclaredFeatures=true,PodLevelResources=true"}}, nil, nil},
		{"a flag", "kube-controller-manager", []config.Arg{{Name: "concurrent-service-syncs", Value: "3"}}, nil,
			[]string{"kube-controller-manager: --concurrent-service-syncs: v1.37 does not know this flag; hint: remove it, it was for the cloud's load balancers"}},
		{"a flag with underscores", "kubelet", []config.Arg{{Name: "storage_driver_db", Value: "x"}}, nil,
			[]string{"kubelet: --storage-driver-db: v1.37 does not know this flag; hint: remove it"}},
		{"a flag of another component", "kube-scheduler", []config.Arg{{Name: "boot-id-file", Value: "/x"}}, nil, nil},
		{"flags of etcd", "etcd", []config.Arg{{Name: "experimental-initial-corrupt-check", Value: "true"}, {Name: "experimental-memory-mlock", Value: "true"}, {Name: "memory-mlock", Value: "true"}}, nil,
			[]string{
				"etcd: --experimental-initial-corrupt-check: v1.37 does not know this flag; hint: use --feature-gates=InitialCorruptCheck=true",
				"etcd: --experimental-memory-mlock: v1.37 does not know this flag; hint: use --memory-mlock",
			}},
		{"gates of etcd are its own", "etcd", []config.Arg{{Name: "feature-gates", Value: "InitialCorruptCheck=true,SidecarContainers=true"}}, nil, nil},
		{"values", "kube-controller-manager", []config.Arg{{Name: "controllers", Value: "*,-node-route-controller,bootstrap-signer-controller"}}, nil,
			[]string{"kube-controller-manager: --controllers=-node-route-controller: v1.37 does not know this value; hint: remove it"}},
		{"admission plugins", "kube-apiserver", []config.Arg{{Name: "enable-admission-plugins", Value: "NodeRestriction,JobValidation"}, {Name: "disable-admission-plugins", Value: "PodGroupWorkloadExists"}}, nil,
			[]string{
				"kube-apiserver: --enable-admission-plugins=JobValidation: v1.37 does not know this value; hint: remove it",
				"kube-apiserver: --disable-admission-plugins=PodGroupWorkloadExists: v1.37 does not know this value; hint: remove it",
			}},
		{"gates, on or off, with and without their component", "kube-scheduler",
			[]config.Arg{{Name: "feature-gates", Value: "SidecarContainers=true, kube:GangScheduling=false"}, {Name: "feature-gates", Value: "AnyVolumeDataSource=True"}}, nil,
			[]string{
				"kube-scheduler: AnyVolumeDataSource=true: v1.37 does not know this feature gate; hint: remove it",
				"kube-scheduler: GangScheduling=false: v1.37 does not know this feature gate; hint: remove it",
				"kube-scheduler: SidecarContainers=true: v1.37 does not know this feature gate; hint: remove it",
			}},
		{"gates of a configuration file", "kubelet", nil, map[string]bool{"SidecarContainers": true, "KubeletTracing": true},
			[]string{"kubelet: SidecarContainers=true: v1.37 does not know this feature gate; hint: remove it"}},
		{"gates that are locked", "kubelet", nil, map[string]bool{"NodeDeclaredFeatures": false, "PLEGOnDemandRelist": true, "DeclarativeValidationTakeover": true},
			[]string{
				"kubelet: DeclarativeValidationTakeover=true: v1.37 keeps this feature gate false; hint: remove it",
				"kubelet: NodeDeclaredFeatures=false: v1.37 keeps this feature gate true; hint: remove it",
			}},
		{"flags win over the file", "kubelet", []config.Arg{{Name: "feature-gates", Value: "NodeDeclaredFeatures=true"}}, map[string]bool{"NodeDeclaredFeatures": false}, nil},
		{"a gate that others need", "kube-apiserver", []config.Arg{{Name: "feature-gates", Value: "ClusterTrustBundle=false"}}, nil,
			[]string{"kube-apiserver: ClusterTrustBundle=false: v1.37 needs it for ClusterTrustBundleProjection; hint: remove it, or add ClusterTrustBundleProjection=false"}},
		{"a gate that others would need", "kube-apiserver", []config.Arg{{Name: "feature-gates", Value: "ClusterTrustBundle=false,ClusterTrustBundleProjection=false"}}, nil, nil},
		{"a gate that others are told to need", "kube-apiserver", []config.Arg{{Name: "feature-gates", Value: "DRADeviceTaints=false,DRADeviceTaintRules=true"}}, nil,
			[]string{"kube-apiserver: DRADeviceTaints=false: v1.37 needs it for DRADeviceTaintRules; hint: remove it, or add DRADeviceTaintRules=false"}},
		{"what no version understands", "kube-apiserver", []config.Arg{{Name: "feature-gates", Value: "SidecarContainers,=,"}}, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, use := range Removed("v1.37.2", tt.component, tt.args, tt.gates) {
				got = append(got, use.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What a file says is the user's.
func TestRemovedLeavesGatesAlone(t *testing.T) {
	gates := map[string]bool{"SidecarContainers": true}
	Removed("v1.37.0", "kubelet", []config.Arg{{Name: "feature-gates", Value: "A=true"}}, gates)
	if fmt.Sprint(gates) != "map[SidecarContainers:true]" {
		t.Errorf("gates became %v", gates)
	}
}

func TestRemovedOfTheFirstMinor(t *testing.T) {
	args := []config.Arg{{Name: "concurrent-service-syncs", Value: "3"}, {Name: "feature-gates", Value: "SidecarContainers=true"}}
	for _, target := range []string{"v1.36.3", "new"} {
		if got := Removed(target, "kube-controller-manager", args, nil); len(got) > 0 {
			t.Errorf("%s: %v", target, got)
		}
	}
	if got := Removed("v1.37.5-rc.1", "kube-controller-manager", args, nil); !slices.ContainsFunc(got, func(u RemovedUse) bool { return u.Use == "--concurrent-service-syncs" }) {
		t.Errorf("v1.37.5-rc.1: %v", got)
	}
}
