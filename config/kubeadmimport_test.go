package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// translate reads a file of testdata, or the text itself when it has several lines.
func translate(t *testing.T, file string, hosts ...Host) (*Cluster, string) {
	t.Helper()
	data := []byte(file)
	if !strings.Contains(file, "\n") {
		var err error
		if data, err = os.ReadFile(filepath.Join("testdata", file)); err != nil {
			t.Fatal(err)
		}
	}
	c, untranslated, err := ReadKubeadm("k.yaml", data, hosts)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return c, strings.ReplaceAll(untranslated.Error(), "k.yaml:", "")
}

// goldenDocument compares what Marshal writes of c, which Parse must take and Validate find right.
func goldenDocument(t *testing.T, name string, c *Cluster) {
	t.Helper()
	got, err := Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, name, got)
	if err := Validate(mustParse(t, string(got))); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

func TestReadKubeadm(t *testing.T) {
	c, untranslated := translate(t, "from-kubeadm-new.yaml",
		Host{Address: "192.0.2.11", SSH: SSH{User: "root"}}, Host{Address: "192.0.2.12", SSH: SSH{Port: 2222}}, Host{Address: "w3"})
	goldenDocument(t, "from-kubeadm-new.want.yaml", c)
	want := "3:1: InitConfiguration.bootstrapTokens: with a document hosts join without a token; hint: `myadm token create` makes one in the cluster\n" +
		`14:5: InitConfiguration.nodeRegistration.kubeletExtraArgs[1]: the kubelet's flag max-pods has no place in the document; hint: set the field of KubeletConfiguration for it under spec.kubelet, for all nodes
15:30: InitConfiguration.timeouts.discovery: myadm has its own limits of time
25:6: ClusterConfiguration.apiServer.extraArgs[1].name: myadm itself sets the flag secure-port; hint: set spec.apiServerPort
26:7: ClusterConfiguration.dns.imageTag: the image goes with the Kubernetes version
36:1: KubeletConfiguration.clusterDomain: other.local contradicts what the cluster has, cluster.local; hint: set spec.networking.dnsDomain`
	if diff := cmp.Diff(want, untranslated); diff != "" {
		t.Errorf("untranslated (-want +got):\n%s", diff)
	}
}

// What the ConfigMaps of a cluster hold that kubeadm v1.37.2 has made: all of it can be said, and little is worth saying.
func TestReadKubeadmOfACluster(t *testing.T) {
	c, untranslated := translate(t, "from-kubeadm-live.yaml", Host{Address: "10.89.0.11"})
	goldenDocument(t, "from-kubeadm-live.want.yaml", c)
	if untranslated != "" {
		t.Errorf("untranslated: %s", untranslated)
	}
}

// What ToKubeadm can say of a document comes back from it.
func TestReadKubeadmReadsWhatToKubeadmWrites(t *testing.T) {
	const nodeLocal = head + `
spec:
  hosts: [{address: 192.0.2.11, roles: [control-plane]}, {address: 192.0.2.12, roles: [worker]}]
  loadBalancer: {type: node-local}
  networking: {plugin: none}
  apiServer: {extraArgs: [{name: v, value: "2"}]}
  certificates: {apiServerSANs: [a.example.org]}
`
	const lone = head + "spec: {networking: {plugin: none}, hosts: [{address: 192.0.2.11, roles: [control-plane]}]}\n"
	const external = head + `
spec:
  controlPlaneEndpoint: lb.example.org:443
  networking: {plugin: none}
  etcd: {external: {endpoints: ["https://etcd-1:2379"], caFile: /etc/kubernetes/pki/etcd/ca.crt, certFile: /etc/kubernetes/pki/apiserver-etcd-client.crt, keyFile: /etc/kubernetes/pki/apiserver-etcd-client.key}}
`
	for name, document := range map[string]string{
		"all": strings.Replace(fullSpec, "networking: {", "networking: {plugin: none, ", 1), "node-local": nodeLocal, "lone": lone, "external": external,
	} {
		want := mustParse(t, document)
		if err := Validate(want); err != nil {
			t.Fatal(err)
		}
		SetDefaults(want)
		data, err := ToKubeadm(want)
		if err != nil {
			t.Fatal(err)
		}
		got, untranslated := translate(t, string(data), want.Spec.Hosts...)
		if untranslated != "" && name != "external" { // whose files are told to be the control planes'
			t.Errorf("%s: %s", name, untranslated)
		}
		SetDefaults(got)
		if diff := cmp.Diff(want, got, sameCluster); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

const (
	initHead    = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n"
	joinHead    = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n"
	clusterHead = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnetworking: {podSubnet: 10.244.0.0/16}\n"
)

func TestReadKubeadmHosts(t *testing.T) {
	cp, w := []Role{RoleControlPlane}, []Role{RoleWorker}
	tests := []struct {
		name, file   string
		given        []Host
		want         []Host
		untranslated string
	}{
		{"none", clusterHead, nil, nil, ""},
		{"only --host", clusterHead, []Host{{Address: "a"}, {Address: "b"}}, []Host{{Address: "a", Roles: cp}, {Address: "b", Roles: w}}, ""},
		{"this machine", clusterHead + "---\n" + initHead + "nodeRegistration: {name: cp-1, taints: []}\n", nil, []Host{{Name: "cp-1", Roles: cp}}, ""},
		{"their own addresses", clusterHead + "---\n" + initHead + "localAPIEndpoint: {advertiseAddress: 192.0.2.1}\n---\n" + joinHead + "nodeRegistration: {name: w-1}\n---\n" +
			joinHead + "controlPlane: {localAPIEndpoint: {advertiseAddress: 192.0.2.2}}\n", nil, []Host{
			{Address: "192.0.2.1", AdvertiseAddress: "192.0.2.1", Roles: cp}, {Name: "w-1", Address: "w-1", Roles: w},
			{Address: "192.0.2.2", AdvertiseAddress: "192.0.2.2", Roles: cp}}, ""},
		{"a template", clusterHead + "---\n" + initHead + "---\n" + joinHead + "nodeRegistration: {kubeletExtraArgs: [{name: node-labels, value: 'a=b,c='}]}\n",
			[]Host{{Address: "a"}, {Address: "b"}, {Address: "c"}}, []Host{{Address: "a", Roles: cp},
				{Address: "b", Roles: w, Labels: map[string]string{"a": "b", "c": ""}}, {Address: "c", Roles: w, Labels: map[string]string{"a": "b", "c": ""}}}, ""},
		{"a named one is no template", clusterHead + "---\n" + initHead + "---\n" + joinHead + "nodeRegistration: {name: w-1}\n",
			[]Host{{Address: "a"}, {Address: "b"}, {Address: "c"}}, []Host{{Address: "a", Roles: cp}, {Name: "w-1", Address: "b", Roles: w}, {Address: "c", Roles: w}}, ""},
		{"nobody knows where", clusterHead + "---\n" + initHead + "nodeRegistration: {name: a}\n---\n" + joinHead, nil, []Host{{Name: "a", Address: "a", Roles: cp}},
			"9:1: JoinConfiguration: is about a node without a name and an address; hint: give it by --host user@address"},
		{"flags of kubelets", clusterHead + "---\n" + initHead + "nodeRegistration: {kubeletExtraArgs: [{name: node-ip, value: 192.0.2.7}, {name: node-labels, value: x}]}\n", nil,
			[]Host{{AdvertiseAddress: "192.0.2.7", Address: "192.0.2.7", Roles: cp}},
			"7:74: InitConfiguration.nodeRegistration.kubeletExtraArgs[1]: the kubelet's flag node-labels has no place in the document; hint: set the field of KubeletConfiguration for it under spec.kubelet, for all nodes"},
	}
	for _, tt := range tests {
		c, untranslated := translate(t, tt.file, tt.given...)
		if diff := cmp.Diff(tt.want, c.Spec.Hosts, sameCluster); diff != "" {
			t.Errorf("%s: hosts (-want +got):\n%s", tt.name, diff)
		}
		if diff := cmp.Diff(tt.untranslated, untranslated); diff != "" {
			t.Errorf("%s: untranslated (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestReadKubeadmTellsWhatItCannotTranslate(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"what kubeadm has anyway", clusterHead + "certificatesDir: /etc/kubernetes/pki\ndns: {disabled: false}\nfeatureGates: {}\n---\n" + joinHead +
			"dryRun: false\ncaCertPath: /etc/kubernetes/pki/ca.crt\nnodeRegistration: {name: a, imagePullPolicy: IfNotPresent, imagePullSerial: true}\ntimeouts: {tlsBootstrap: 300s, upgradeManifests: 5m0s}\n",
			` spec.hosts: no host is a control plane; hint: give one host roles: [control-plane]`},
		{"of the cluster", clusterHead + `certificatesDir: /pki
featureGates: {A: true}
proxy: {disabled: true}
etcd: {local: {imageTag: "3", serverCertSANs: [a]}}
scheduler: {extraVolumes: [{name: A, hostPath: /a, mountPath: /b}]}
kubernetesVersion: v1.12.0
`, `4:1: ClusterConfiguration.certificatesDir: myadm keeps certificates in /etc/kubernetes/pki
5:1: ClusterConfiguration.featureGates: myadm has none of kubeadm's feature gates; hint: Kubernetes' own are set by the flag feature-gates in extraArgs
6:9: ClusterConfiguration.proxy.disabled: myadm installs kube-proxy always
7:16: ClusterConfiguration.etcd.local.imageTag: the image goes with the Kubernetes version
7:31: ClusterConfiguration.etcd.local.serverCertSANs: etcd's certificates have the names that kubeadm gives by itself, and no further ones
8:29: ClusterConfiguration.scheduler.extraVolumes[0].name: "A" is not a volume's name; hint: use small letters, digits and -
9:1: ClusterConfiguration.kubernetesVersion: Kubernetes v1.12.0 is not supported; hint: use v1.36 or v1.37, such as v1.37.2`},
		{"no pod subnet", "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n", "1:1: ClusterConfiguration.networking.podSubnet: is not given: kubeadm leaves pods' addresses to the network plugin then, and myadm gives nodes parts of its default, 10.244.0.0/16; hint: set networking.podSubnet to the network plugin's"},
		{"several control planes and no load balancer", clusterHead + "controlPlaneEndpoint: 192.0.2.1\n---\n" + initHead + "localAPIEndpoint: {advertiseAddress: 192.0.2.1}\n---\n" + joinHead + "nodeRegistration: {name: b}\ncontrolPlane: {localAPIEndpoint: {bindPort: 7443}}\n",
			`4:1: ClusterConfiguration.controlPlaneEndpoint: is the address of one control plane, 192.0.2.1: in the document every node has a load balancer of its own instead; hint: name your load balancer in the document, or leave it so
13:35: JoinConfiguration.controlPlane.localAPIEndpoint.bindPort: is another than the first control plane's, and in the document all API servers have the port 6443`},
		{"sockets", clusterHead + "---\n" + initHead + "nodeRegistration: {criSocket: unix:///run/crio/crio.sock, name: a}\n---\n" + joinHead + "nodeRegistration: {name: b, criSocket: /run/x.sock}\n",
			"11:29: JoinConfiguration.nodeRegistration.criSocket: is another than the cluster's, and in the document all hosts have the same socket, /run/crio/crio.sock"},
		{"other kinds", clusterHead + "---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ResetConfiguration\nforce: true\n", "5:1: ResetConfiguration: says nothing of the cluster; hint: myadm's commands have flags for it"},
		{"kube-proxy", clusterHead + "---\napiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nclusterCIDR: 10.9.0.0/16\nclientConnection: {kubeconfig: /x}\n",
			`7:1: KubeProxyConfiguration.clusterCIDR: 10.9.0.0/16 contradicts what the cluster has, 10.244.0.0/16; hint: set spec.networking.podSubnet
8:20: KubeProxyConfiguration.clientConnection.kubeconfig: /x contradicts what the cluster has, /var/lib/kube-proxy/kubeconfig.conf; hint: remove it`},
	} {
		c, got := translate(t, tt.file)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if len(c.Spec.KubeProxy) > 0 {
			t.Errorf("%s: kubeProxy is %v", tt.name, c.Spec.KubeProxy)
		}
	}
}

func TestReadKubeadmRefuses(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"empty", "---\n", "k.yaml: the file is empty; hint: `kubeadm config print init-defaults` prints one"},
		{"an older version", "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\napiServer: {extraArgs: {v: \"2\"}}\n",
			"k.yaml:1:13: \"kubeadm.k8s.io/v1beta3\" is an older version than kubeadm.k8s.io/v1beta4; hint: run `kubeadm config migrate --old-config k.yaml --new-config NEW`, and give NEW"},
		{"a newer version", "apiVersion: kubeadm.k8s.io/v1\nkind: ClusterConfiguration\n", `k.yaml:1:13: "kubeadm.k8s.io/v1" is newer than kubeadm.k8s.io/v1beta4, the newest version that this myadm reads; hint: use a newer myadm`},
		{"unknown fields, in several documents", clusterHead + "podSubnet: x\napiServer: {extraArgs: {v: 2}}\n---\n" + joinHead + "nodeRegistration: {nam: x}\n", `k.yaml:4:1: ClusterConfiguration.podSubnet: unknown field
k.yaml:5:24: ClusterConfiguration.apiServer.extraArgs: expected a list, found fields; hint: put "- " before each item, or all of them in [ ]
k.yaml:9:20: JoinConfiguration.nodeRegistration.nam: unknown field; hint: did you mean name?`},
		{"two of a kind", clusterHead + "---\n" + clusterHead, "k.yaml:5:1: a second ClusterConfiguration starts here; hint: keep one; the first is on line 1"},
		{"a ConfigMap", "apiVersion: v1\nkind: ConfigMap\ndata: {}\n", "k.yaml:1:1: a ConfigMap, and not what it holds; hint: kubectl -n kube-system get configmap kubeadm-config -o jsonpath='{.data.ClusterConfiguration}' prints that"},
		{"a Cluster", head, "k.yaml:1:1: the document is a Cluster already; hint: `myadm config validate` checks it"},
		{"a misspelt kind", "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfig\n", `k.yaml:2:7: "InitConfig" of "kubeadm.k8s.io/v1beta4" is not a document that kubeadm reads; hint: use InitConfiguration, ClusterConfiguration, JoinConfiguration, ResetConfiguration, UpgradeConfiguration, KubeletConfiguration or KubeProxyConfiguration`},
		{"no type", "a: b\n", "k.yaml:1:1: apiVersion or kind is missing; hint: write apiVersion: kubeadm.k8s.io/v1beta4, and the kind, such as ClusterConfiguration"},
		{"a list", "- a\n", "k.yaml:1:1: the document is a list and not a mapping; hint: `kubeadm config print init-defaults` prints some"},
		{"not YAML", "a: [\n", "k.yaml:1:1: not YAML: did not find expected node content"},
	} {
		_, _, err := ReadKubeadm("k.yaml", []byte(tt.file), nil)
		var errs Errors
		if !errors.As(err, &errs) || err.Error() != tt.want {
			t.Errorf("%s:\n got %v\nwant %s", tt.name, err, tt.want)
		}
	}
}

// Tokens and keys are never shown, and stay behind.
func TestReadKubeadmKeepsSecrets(t *testing.T) {
	const secret = "abcdef.0123456789abcdef"
	c, untranslated := translate(t, clusterHead+"---\n"+initHead+"certificateKey: "+secret+"\nbootstrapTokens: [{token: "+secret+"}]\n---\n"+
		joinHead+"nodeRegistration: {name: a}\ndiscovery: {tlsBootstrapToken: "+secret+", bootstrapToken: {token: "+secret+"}}\ncontrolPlane: {certificateKey: "+secret+"}\n")
	document, err := Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(untranslated+string(document), secret) {
		t.Errorf("a secret is shown:\n%s\n%s", untranslated, document)
	}
}

func FuzzReadKubeadm(f *testing.F) {
	f.Setenv("HOME", f.TempDir())
	for _, name := range []string{"from-kubeadm-new.yaml", "from-kubeadm-live.yaml", "kubeadm-full.yaml", "kubeadm-node-local.yaml"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(clusterHead + "---\n" + joinHead + "nodeRegistration: {taints: [], kubeletExtraArgs: [{name: node-ip, value: '::1'}]}\n---\n" + initHead))
	f.Add([]byte("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\netcd: {external: {endpoints: [a], caFile: '~/x'}}\nkubernetesVersion: 1.37.2\n"))
	f.Add([]byte("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncrashLoopBackOff: {}\nlogging: {flushFrequency: 0, options: {json: {infoBufferSize: 0}}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, untranslated, err := ReadKubeadm("k.yaml", data, []Host{{Address: "a"}})
		if err != nil {
			return
		}
		document, err := Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse("/k.yaml", document)
		if err != nil {
			t.Fatalf("the document is refused: %v\n%s", err, document)
		}
		if err := Validate(back); err != nil && len(untranslated) == 0 {
			t.Errorf("nothing was told, and the document is not valid: %v\n%s", err, document)
		}
	})
}
