package manifests_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

type renderer func() ([]*unstructured.Unstructured, error)

// groups are all functions that render objects.
func groups(t *testing.T, p manifests.Params) map[string]renderer {
	t.Helper()
	cluster := must[[]byte](t)(config.ToKubeadm(p.Cluster))
	return map[string]renderer{
		"bootstrap-rbac": manifests.BootstrapRBAC,
		"config-rbac":    manifests.ConfigRBAC,
		"cluster-admin":  manifests.ClusterAdminBinding,
		"kubelet-client": manifests.APIServerKubeletClientBinding,
		"kubeadm-config": func() ([]*unstructured.Unstructured, error) { return manifests.KubeadmConfig(cluster) },
		"kubelet-config": func() ([]*unstructured.Unstructured, error) { return manifests.KubeletConfigMap(p) },
		"cluster-info":   func() ([]*unstructured.Unstructured, error) { return manifests.ClusterInfo(p.Endpoint, referenceCA(t)) },
		"coredns":        func() ([]*unstructured.Unstructured, error) { return manifests.CoreDNS(p) },
		"kube-proxy":     func() ([]*unstructured.Unstructured, error) { return manifests.KubeProxy(p) },
		"flannel":        func() ([]*unstructured.Unstructured, error) { return manifests.Flannel(p) },
		"myadm-config":   func() ([]*unstructured.Unstructured, error) { return manifests.MyadmConfig(p) },
		"api-endpoints": func() ([]*unstructured.Unstructured, error) {
			return manifests.APIEndpoints(p, []manifests.EndpointNode{{Name: "h1", Address: netip.MustParseAddr("10.89.0.11")}})
		},
	}
}

func id(o map[string]any) string {
	u := unstructured.Unstructured{Object: o}
	return u.GetKind() + " " + u.GetNamespace() + "/" + u.GetName()
}

// plain is an object as it is read from YAML.
func plain(t *testing.T, u *unstructured.Unstructured) map[string]any {
	t.Helper()
	return decode(t, must[[]byte](t)(yaml.Marshal(u.Object)))
}

// rendered are the objects of all groups that kubeadm has, too.
func rendered(t *testing.T, p manifests.Params) map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]any{}
	for name, render := range groups(t, p) {
		if slices.Contains([]string{"flannel", "myadm-config", "api-endpoints"}, name) {
			continue
		}
		for _, u := range must[[]*unstructured.Unstructured](t)(render()) {
			all[id(u.Object)] = plain(t, u)
		}
	}
	return all
}

// referenceCluster is the cluster of testdata/kubeadm with what its user had set.
func referenceCluster(t *testing.T) manifests.Params {
	return kubeadmCluster(t, cgroupfs, func(s *config.Spec) {
		s.Certificates.KeyAlgorithm = "RSA-2048"
		s.KubeProxy = map[string]any{"conntrack": map[string]any{"maxPerCore": int64(0), "min": int64(0)}}
	})
}

func referenceCA(t *testing.T) []byte {
	t.Helper()
	data := reference(t, "cluster-info.yaml")[0]["data"].(map[string]any)
	cluster := decode(t, []byte(data["kubeconfig"].(string)))["clusters"].([]any)[0].(map[string]any)["cluster"].(map[string]any)
	return must[[]byte](t)(base64.StdEncoding.DecodeString(cluster["certificate-authority-data"].(string)))
}

func TestObjectsEqualKubeadms(t *testing.T) {
	got := rendered(t, referenceCluster(t))
	takeConfigHash(t, got)
	var want []map[string]any
	for _, file := range []string{"rbac.yaml", "configmaps.yaml", "cluster-info.yaml", "addons.yaml"} {
		want = append(want, reference(t, file)...)
	}
	for _, w := range want {
		g := got[id(w)]
		delete(got, id(w))
		if diff := cmp.Diff(essence(t, w), essence(t, g)); diff != "" {
			t.Errorf("%s differs from kubeadm's (-kubeadm +myadm):\n%s", id(w), diff)
		}
	}
	// The service accounts and CoreDNS' part of the roles are not in the reference files.
	extra := slices.Sorted(maps.Keys(got))
	if diff := cmp.Diff([]string{"ServiceAccount kube-system/coredns", "ServiceAccount kube-system/kube-proxy"}, extra); diff != "" {
		t.Errorf("objects that kubeadm does not make (-expected +rendered):\n%s", diff)
	}
}

// takeConfigHash takes off kube-proxy's pods what kubeadm has not: the checksum by which they are replaced when their
// ConfigMap changes.
func takeConfigHash(t *testing.T, objects map[string]map[string]any) {
	t.Helper()
	data := objects["ConfigMap kube-system/kube-proxy"]["data"].(map[string]any)
	want := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(data["config.conf"].(string)+data["kubeconfig.conf"].(string))))
	pods := objects["DaemonSet kube-system/kube-proxy"]
	path := []string{"spec", "template", "metadata", "annotations"}
	annotations, _, _ := unstructured.NestedStringMap(pods, path...)
	if diff := cmp.Diff(map[string]string{"myadm.dev/config-hash": want}, annotations); diff != "" {
		t.Errorf("annotations of kube-proxy's pods (-want +got):\n%s", diff)
	}
	unstructured.RemoveNestedField(pods, path...)
}

// defaulted are fields that the API server has filled in on the reference, by the value that it gives.
var defaulted = map[string][]any{
	"defaultMode":                   {420.0},
	"dnsPolicy":                     {"ClusterFirst"},
	"failureThreshold":              {3.0},
	"internalTrafficPolicy":         {"Cluster"},
	"ipFamilyPolicy":                {"SingleStack"},
	"maxSurge":                      {"25%"},
	"periodSeconds":                 {10.0},
	"progressDeadlineSeconds":       {600.0},
	"resources":                     {map[string]any{}},
	"restartPolicy":                 {"Always"},
	"revisionHistoryLimit":          {10.0},
	"rollingUpdate":                 {map[string]any{"maxSurge": 0.0, "maxUnavailable": 1.0}}, // of DaemonSets
	"schedulerName":                 {"default-scheduler"},
	"securityContext":               {map[string]any{}},
	"serviceAccount":                {"coredns", "kube-proxy"}, // the old name of serviceAccountName
	"sessionAffinity":               {"None"},
	"successThreshold":              {1.0},
	"terminationGracePeriodSeconds": {30.0},
	"terminationMessagePath":        {"/dev/termination-log"},
	"terminationMessagePolicy":      {"File"},
	"timeoutSeconds":                {1.0},
	"type":                          {"ClusterIP", ""},
	"clusterIPs":                    {[]any{"10.96.0.10"}},
	"ipFamilies":                    {[]any{"IPv4"}},
}

// essence is an object without defaulted fields, and with the documents in a ConfigMap decoded.
func essence(t *testing.T, o map[string]any) map[string]any {
	t.Helper()
	out := withoutDefaults(o).(map[string]any)
	if o["kind"] != "ConfigMap" {
		return out
	}
	data := map[string]any{}
	for key, text := range o["data"].(map[string]any) {
		data[key] = text
		if key != "Corefile" {
			data[key] = set(decode(t, []byte(text.(string))), key == manifests.KubeletConfigKey)
		}
	}
	out["data"] = data
	return out
}

func withoutDefaults(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			if !slices.ContainsFunc(defaulted[k], func(d any) bool { return cmp.Equal(d, e) }) {
				out[k] = withoutDefaults(e)
			}
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			out = append(out, withoutDefaults(e))
		}
		return out
	}
	return v
}

func TestObjectsAreFitForServerSideApply(t *testing.T) {
	p := kubeadmCluster(t)
	again := groups(t, p)
	for name, render := range groups(t, p) {
		objects := must[[]*unstructured.Unstructured](t)(render())
		if len(objects) == 0 {
			t.Errorf("%s renders nothing", name)
		}
		for _, u := range objects {
			if u.GetAPIVersion() == "" || u.GetKind() == "" || u.GetName() == "" {
				t.Errorf("%s: %s has no type or no name", name, id(u.Object))
			}
			checkFields(t, name+": "+id(u.Object), u.Object)
		}
		if diff := cmp.Diff(objects, must[[]*unstructured.Unstructured](t)(again[name]())); diff != "" {
			t.Errorf("%s renders differently the second time:\n%s", name, diff)
		}
	}
}

// checkFields reports what server-side apply would make us the owner of without anybody having set it.
func checkFields(t *testing.T, at string, m map[string]any) {
	t.Helper()
	for key, v := range m {
		if v == nil || key == "status" || key == "creationTimestamp" {
			t.Errorf("%s.%s is %v", at, key, v)
		}
		switch v := v.(type) {
		case map[string]any:
			if len(v) == 0 {
				t.Errorf("%s.%s is empty", at, key)
			}
			checkFields(t, at+"."+key, v)
		case []any:
			for i, e := range v {
				if e, ok := e.(map[string]any); ok {
					checkFields(t, fmt.Sprintf("%s.%s[%d]", at, key, i), e)
				}
			}
		}
	}
}

func TestGeneratedConfigIsSignedForKubeadm(t *testing.T) {
	untouched, touched := rendered(t, kubeadmCluster(t)), rendered(t, referenceCluster(t))
	for name, keys := range map[string][]string{
		"ConfigMap kube-system/kubelet-config": {"kubelet"},
		"ConfigMap kube-system/kube-proxy":     {"config.conf", "kubeconfig.conf"},
	} {
		u := unstructured.Unstructured{Object: untouched[name]}
		data := u.Object["data"].(map[string]any)
		if len(data) != len(keys) {
			t.Fatalf("%s has %d keys, want %q", name, len(data), keys)
		}
		var all string
		for _, key := range keys {
			all += data[key].(string)
		}
		want := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(all)))
		if got := u.GetAnnotations()[manifests.ComponentConfigHash]; got != want {
			t.Errorf("%s: signature %q, want %q", name, got, want)
		}
		u = unstructured.Unstructured{Object: touched[name]}
		if got, signed := u.GetAnnotations()[manifests.ComponentConfigHash]; signed {
			t.Errorf("%s has the user's settings and a signature, %q: kubeadm would replace it", name, got)
		}
	}
}

func TestKubeProxyConfigMerge(t *testing.T) {
	p := kubeadmCluster(t, func(s *config.Spec) {
		s.Networking = config.Networking{PodSubnet: "fd00:244::/56,10.244.0.0/16", ServiceSubnet: "fd00:96::/112,10.96.0.0/16"}
		s.KubeProxy = map[string]any{"mode": "nftables", "conntrack": map[string]any{"maxPerCore": int64(0)}, "clientConnection": map[string]any{"qps": 5.5}}
	})
	p.NodeEndpoint = "[fd00::1]:6443"
	data := rendered(t, p)["ConfigMap kube-system/kube-proxy"]["data"].(map[string]any)
	golden(t, "kube-proxy/config.conf", host.File{Data: []byte(data["config.conf"].(string))})
	golden(t, "kube-proxy/kubeconfig.conf", host.File{Data: []byte(data["kubeconfig.conf"].(string))})
}

func TestFlannelGolden(t *testing.T) {
	conflist := must[host.File](t)(manifests.FlannelConflist())
	golden(t, "10-flannel.conflist", conflist)
	if !manifests.Marked(conflist.Data) {
		t.Error("the conflist carries no mark")
	}
	var docs [][]byte
	for _, u := range must[[]*unstructured.Unstructured](t)(manifests.Flannel(kubeadmCluster(t))) {
		docs = append(docs, must[[]byte](t)(yaml.Marshal(u.Object)))
	}
	golden(t, "flannel.yaml", host.File{Data: bytes.Join(docs, []byte("---\n"))})
}

func TestFlannelNetworks(t *testing.T) {
	tests := []struct {
		subnet string
		want   map[string]any
	}{
		{"10.244.0.0/16", map[string]any{"Network": "10.244.0.0/16", "EnableIPv4": true, "EnableIPv6": false}},
		{"fd00::/56", map[string]any{"IPv6Network": "fd00::/56", "EnableIPv4": false, "EnableIPv6": true}},
		{"10.244.0.0/16,fd00::/56", map[string]any{
			"Network": "10.244.0.0/16", "IPv6Network": "fd00::/56", "EnableIPv4": true, "EnableIPv6": true}},
	}
	for _, test := range tests {
		p := kubeadmCluster(t, func(s *config.Spec) { s.Networking.PodSubnet = test.subnet })
		for _, u := range must[[]*unstructured.Unstructured](t)(manifests.Flannel(p)) {
			if u.GetKind() != "ConfigMap" {
				continue
			}
			net, _, _ := unstructured.NestedString(u.Object, "data", "net-conf.json")
			test.want["Backend"] = map[string]any{"Type": "vxlan"}
			if diff := cmp.Diff(test.want, decode(t, []byte(net))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.subnet, diff)
			}
		}
	}
}

func TestNodeMarks(t *testing.T) {
	const key = "node-role.kubernetes.io/control-plane"
	cp := map[string]string{key: "", "node.kubernetes.io/exclude-from-external-load-balancers": ""}
	noSchedule := corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule}
	users := corev1.Taint{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoExecute}
	tests := []struct {
		name   string
		host   config.Host
		labels map[string]string
		taints []corev1.Taint
	}{
		{"worker", config.Host{Roles: []config.Role{config.RoleWorker}}, map[string]string{}, nil},
		{"control plane", config.Host{Roles: []config.Role{config.RoleControlPlane}}, cp, []corev1.Taint{noSchedule}},
		{"both", config.Host{Roles: []config.Role{config.RoleControlPlane, config.RoleWorker}}, cp, nil},
		{"control plane without taints", config.Host{Roles: []config.Role{config.RoleControlPlane}, Taints: []corev1.Taint{}}, cp, nil},
		{"with its own", config.Host{
			Roles:  []config.Role{config.RoleControlPlane},
			Labels: map[string]string{"zone": "a", key: "x"},
			Taints: []corev1.Taint{users, {Key: key, Value: "x", Effect: corev1.TaintEffectNoSchedule}},
		}, map[string]string{"zone": "a", key: "x", "node.kubernetes.io/exclude-from-external-load-balancers": ""},
			[]corev1.Taint{users, {Key: key, Value: "x", Effect: corev1.TaintEffectNoSchedule}}},
	}
	for _, test := range tests {
		labels, taints := manifests.NodeMarks(test.host)
		if diff := cmp.Diff(test.labels, labels); diff != "" {
			t.Errorf("%s: labels (-want +got):\n%s", test.name, diff)
		}
		if diff := cmp.Diff(test.taints, taints, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: taints (-want +got):\n%s", test.name, diff)
		}
		// What a node loses with the document is what the document has given it; role and kubelet give theirs by themselves.
		test.host.Labels = maps.Clone(test.host.Labels)
		if test.host.Labels == nil {
			test.host.Labels = map[string]string{}
		}
		maps.Copy(test.host.Labels, map[string]string{"kubernetes.io/hostname": "h", "kubernetes.io/arch": "amd64"})
		want := maps.Clone(test.labels)
		maps.DeleteFunc(want, func(name, _ string) bool { return name != "zone" })
		labels, taints = manifests.RevocableMarks(test.host)
		if diff := cmp.Diff(want, labels); diff != "" {
			t.Errorf("%s: labels that may go (-want +got):\n%s", test.name, diff)
		}
		if diff := cmp.Diff(test.taints, taints, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: taints that may go (-want +got):\n%s", test.name, diff)
		}
	}
}
