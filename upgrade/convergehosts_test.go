package upgrade

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
)

func TestFinishedClusterHasNothingToDo(t *testing.T) {
	f := newFleet(t, newQuorum(t, "cp-1", "cp-2"), nil)
	f.finished()
	perform(t, f.converge(rigOptions())...)
	if len(f.done) > 0 {
		t.Errorf("again it does %q", f.done)
	}
}

const (
	apiServerPod  = config.ManifestsDir + "/kube-apiserver.yaml"
	managerPod    = config.ManifestsDir + "/kube-controller-manager.yaml"
	schedulerPod  = config.ManifestsDir + "/kube-scheduler.yaml"
	etcdPod       = config.ManifestsDir + "/etcd.yaml"
	policyFile    = "/etc/kubernetes/audit/policy.yaml"
	wholeAPI      = "kube-apiserver kube-controller-manager kube-scheduler" // an API server, with what cannot do without it
	kubeletAnew   = "run unit kubelet.service"
	updateKubelet = "update " + config.KubeletConfigFile
)

// policy is a file of the user's that the API server is to have.
func policy(content string) config.Component {
	return config.Component{ExtraVolumes: []config.HostPathMount{
		{Name: "audit", HostPath: policyFile, MountPath: policyFile, ReadOnly: true, File: "policy.yaml", Content: []byte(content)},
	}}
}

// differences are all kinds of them between a document and its hosts: those that come with an edit of the document, and what
// somebody has done to a host.
var differences = []struct {
	name   string
	before func(s *config.Spec) // of the document that the cluster was made from; may be nil
	do     func(f *fleet)
	want   map[string][]string // what Check says then, by host
	ends   []string            // the exchanges that Apply makes, in order, with the pods that end in them
}{
	{
		name: "a flag in the document",
		do: func(f *fleet) {
			f.Config.Spec.APIServer.ExtraArgs = []config.Arg{{Name: "v", Value: "4"}}
		},
		want: map[string][]string{"cp-1": {"update " + apiServerPod}, "cp-2": {"update " + apiServerPod}},
		ends: []string{"cp-1: " + wholeAPI, "cp-2: " + wholeAPI},
	},
	{
		name: "a flag of the scheduler, which nothing else needs",
		do: func(f *fleet) {
			f.Config.Spec.Scheduler.ExtraArgs = []config.Arg{{Name: "v", Value: "4"}}
		},
		want: map[string][]string{"cp-1": {"update " + schedulerPod}, "cp-2": {"update " + schedulerPod}},
		ends: []string{"cp-1: kube-scheduler", "cp-2: kube-scheduler"},
	},
	{
		name: "a patch of etcd's pod",
		do: func(f *fleet) {
			f.Config.Spec.Etcd.Patch = map[string]any{"metadata": map[string]any{"labels": map[string]any{"team": "infra"}}}
		},
		want: map[string][]string{"cp-1": {"update " + etcdPod}, "cp-2": {"update " + etcdPod}},
		ends: []string{"cp-1: etcd", "cp-2: etcd"},
	},
	{
		name: "a static pod was deleted",
		do:   func(f *fleet) { f.host("cp-2").lose(managerPod) },
		want: map[string][]string{"cp-2": {"update " + managerPod}},
		ends: []string{"cp-2: kube-controller-manager"},
	},
	{
		name: "a static pod was edited",
		do: func(f *fleet) {
			file, _ := f.host("cp-1").Get(schedulerPod)
			f.host("cp-1").touch(schedulerPod, file.Mode, string(file.Data)+"# mine\n")
		},
		want: map[string][]string{"cp-1": {"update " + schedulerPod}},
		ends: []string{"cp-1: kube-scheduler"},
	},
	{
		name: "a static pod is no pod any more",
		do:   func(f *fleet) { f.host("cp-2").touch(apiServerPod, 0o600, "[") },
		want: map[string][]string{"cp-2": {"update " + apiServerPod}},
		ends: []string{"cp-2: " + wholeAPI},
	},
	{
		name: "the kubelets' configuration in the document",
		do:   func(f *fleet) { f.Config.Spec.Kubelet = map[string]any{"maxPods": int64(60)} },
		want: map[string][]string{"cp-1": {updateKubelet}, "cp-2": {updateKubelet}, "w-1": {updateKubelet}, "w-2": {updateKubelet}},
		ends: []string{"cp-1:", "cp-2:", "w-1:", "w-2:"},
	},
	{
		name: "a kubelet's configuration was edited",
		do: func(f *fleet) {
			f.host("w-2").touch(config.KubeletConfigFile, 0o644, "kind: KubeletConfiguration\n")
		},
		want: map[string][]string{"w-2": {updateKubelet}},
		ends: []string{"w-2:"},
	},
	{
		name: "a kubelet's unit was edited, and the drop-in of another is gone",
		do: func(f *fleet) {
			f.host("cp-1").touch(manifests.KubeletUnitPath, 0o644, "[Service]\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n")
			f.host("w-1").lose(manifests.KubeletDropInPath)
		},
		want: map[string][]string{"cp-1": {"update " + manifests.KubeletUnitPath}, "w-1": {"create " + manifests.KubeletDropInPath}},
		ends: []string{"cp-1:", "w-1:"},
	},
	{
		name: "a name of the API server in the document",
		do:   func(f *fleet) { f.Config.Spec.Certificates.APIServerSANs = []string{"api.example.org"} },
		want: map[string][]string{
			"cp-1": {"update " + config.PKIDir + "/apiserver.key", "update " + config.PKIDir + "/apiserver.crt"},
			"cp-2": {"update " + config.PKIDir + "/apiserver.key", "update " + config.PKIDir + "/apiserver.crt"},
		},
		ends: []string{"cp-1: " + wholeAPI, "cp-2: " + wholeAPI},
	},
	{
		name: "certificates are gone",
		do: func(f *fleet) {
			f.host("cp-1").lose(config.PKIDir + "/etcd/server.crt")
			f.host("cp-2").lose(config.SchedulerConf)
		},
		want: map[string][]string{
			"cp-1": {"update " + config.PKIDir + "/etcd/server.key", "create " + config.PKIDir + "/etcd/server.crt"},
			"cp-2": {"create " + config.SchedulerConf},
		},
		ends: []string{"cp-1: etcd", "cp-2: kube-scheduler"},
	},
	{
		name: "an authority is gone from the control plane that made it",
		do: func(f *fleet) {
			f.host("cp-1").lose(config.PKIDir + "/front-proxy-ca.crt")
			f.host("cp-1").lose(config.PKIDir + "/front-proxy-ca.key")
		},
		want: map[string][]string{"cp-1": {"create " + config.PKIDir + "/front-proxy-ca.key", "create " + config.PKIDir + "/front-proxy-ca.crt"}},
		ends: []string{"cp-1: " + wholeAPI},
	},
	{
		name: "a key can be read by all, and nothing ends for it",
		do: func(f *fleet) {
			file, _ := f.host("cp-2").Get(config.PKIDir + "/sa.key")
			f.host("cp-2").touch(file.Path, 0o644, string(file.Data))
		},
		want: map[string][]string{"cp-2": {"update " + config.PKIDir + "/sa.key"}},
	},
	{
		name: "a certificate that nothing has open",
		do:   func(f *fleet) { f.host("cp-1").lose(config.PKIDir + "/etcd/healthcheck-client.crt") },
		want: map[string][]string{"cp-1": {
			"update " + config.PKIDir + "/etcd/healthcheck-client.key", "create " + config.PKIDir + "/etcd/healthcheck-client.crt",
		}},
	},
	{
		name: "a kubelet was started before its configuration was written",
		do: func(f *fleet) {
			file, _ := f.host("cp-2").Get(config.KubeletConfigFile)
			f.host("cp-2").touch(file.Path, file.Mode, string(file.Data))
		},
		want: map[string][]string{"cp-2": {kubeletAnew}},
		ends: []string{"cp-2:"},
	},
	{
		name: "a kubelet was stopped, and another one is not started with its host",
		do: func(f *fleet) {
			f.host("w-1").systemctl("stop")
			f.host("w-2").systemctl("disable")
			f.host("cp-1").systemctl("disable")
		},
		want: map[string][]string{"cp-1": {kubeletAnew}, "w-1": {kubeletAnew}, "w-2": {kubeletAnew}},
		ends: []string{"cp-1:", "w-2:"}, // one that only has to be started is so before
	},
	{
		name:   "a file of the user's in the document",
		before: func(s *config.Spec) { s.APIServer = policy("rules: 1\n") },
		do:     func(f *fleet) { f.Config.Spec.APIServer = policy("rules: 2\n") },
		want: map[string][]string{
			"cp-1": {"update " + apiServerPod, "update " + policyFile}, "cp-2": {"update " + apiServerPod, "update " + policyFile},
		},
		ends: []string{"cp-1: " + wholeAPI, "cp-2: " + wholeAPI},
	},
	{
		name:   "a file of the user's was edited on a host",
		before: func(s *config.Spec) { s.APIServer = policy("rules: 1\n") },
		do:     func(f *fleet) { f.host("cp-2").touch(policyFile, 0o600, "mine\n") },
		want:   map[string][]string{"cp-2": {"update " + policyFile}},
		ends:   []string{"cp-2: " + wholeAPI},
	},
	{
		name: "all at once",
		do:   muchDiffers,
		want: map[string][]string{
			"cp-1": {
				"update " + etcdPod, "update " + apiServerPod, "update " + config.PKIDir + "/apiserver.key", "update " + config.PKIDir + "/apiserver.crt",
				"create " + policyFile, updateKubelet,
			},
			"cp-2": {
				"update " + etcdPod, "update " + apiServerPod, "update " + schedulerPod, "update " + config.PKIDir + "/apiserver.key",
				"update " + config.PKIDir + "/apiserver.crt", "create " + policyFile, updateKubelet,
			},
			"w-1": {updateKubelet}, "w-2": {updateKubelet},
		},
		ends: []string{"cp-1: etcd " + wholeAPI, "cp-2: etcd " + wholeAPI, "w-1:", "w-2:"},
	},
}

// muchDiffers is an edit that reaches every part of a host, with some damage.
func muchDiffers(f *fleet) {
	f.Config.Spec.APIServer = policy("rules: 1\n")
	f.Config.Spec.Certificates.APIServerSANs = []string{"api.example.org"}
	f.Config.Spec.Kubelet = map[string]any{"maxPods": int64(60)}
	f.Config.Spec.Etcd.Patch = map[string]any{"metadata": map[string]any{"labels": map[string]any{"team": "infra"}}}
	servers := f.ControlPlanes()
	f.host(servers[len(servers)-1].Spec.Name).lose(schedulerPod)
	f.host("w-2").systemctl("disable")
}

// TestHostsConverge: Check names what differs, where it does, and nothing else; Apply mends it in turns; and then there is
// nothing left to do.
func TestHostsConverge(t *testing.T) {
	q := newQuorum(t, "cp-1", "cp-2")
	for _, tt := range differences {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(t, q, tt.before)
			tt.do(f)
			if diff := cmp.Diff(tt.want, f.check()); diff != "" {
				t.Errorf("to do (-want +got):\n%s", diff)
			}
			perform(t, f.converge(rigOptions())...)
			if diff := cmp.Diff(tt.ends, f.exchanges()); diff != "" {
				t.Errorf("exchanges (-want +got):\n%s", diff)
			}
			f.finished()
			f.done = nil
			perform(t, f.converge(rigOptions())...)
			if len(f.done) > 0 {
				t.Errorf("again it does %q", f.done)
			}
		})
	}
}
