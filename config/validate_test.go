package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

// Each case is the spec of a document, from line 4 on, and every message that it gives.
func TestValidate(t *testing.T) {
	tests := []struct{ name, spec, want string }{
		{"nothing", "", ""},
		{"a whole cluster", `
hosts:
- {name: cp-1, address: 192.0.2.1, advertiseAddress: 198.51.100.1, roles: [control-plane, worker], ssh: {port: 2222, hostKey: ` + hostKey + `, bastion: "ops@jump:22,[2001:db8::1]:2222,2001:db8::2"}}
- {name: w-1.example.org, address: w_1, labels: {node-role.kubernetes.io/worker: ""}, taints: [{key: a/b, effect: NoExecute}, {key: a/b, effect: NoSchedule}]}
- {address: "fe80::1%eth0"}
controlPlaneEndpoint: "[2001:db8::5]:443"
imageRepository: mirror.example.org:5000/k8s/x
kubelet: {staticPodPath: /etc/kubernetes/manifests, clusterDomain: cluster.local, kind: KubeletConfiguration}`, ""},

		{"versions", `kubernetesVersion: 1.37.2-x`, `4:2: spec.kubernetesVersion: "1.37.2-x" is not a Kubernetes version; hint: write it as v1.37.2, or as a label: stable, stable-1.37, latest-1.37`},
		{"short version", `kubernetesVersion: v1.37`, `4:2: spec.kubernetesVersion: "v1.37" is not a Kubernetes version; hint: write it as v1.37.2, or as a label: stable, stable-1.37, latest-1.37`},
		{"unsupported version", `kubernetesVersion: v1.30.1`, `4:2: spec.kubernetesVersion: Kubernetes v1.30.1 is not supported; hint: use v1.36 or v1.37, such as v1.37.2`},
		{"newer patch release", `kubernetesVersion: v1.36.99`, ""},

		{"bad networks", `networking: {podSubnet: 10.244.0.0, serviceSubnet: "10.96.0.0/16, fd00::/108"}`, `
4:15: spec.networking.podSubnet: "10.244.0.0" is not a network; hint: write a network as ADDRESS/BITS, such as 10.244.0.0/16 or fd00:10:244::/48
4:38: spec.networking.serviceSubnet: "10.96.0.0/16, fd00::/108" has a space in it; hint: write it without spaces`},
		{"host bits", `networking: {podSubnet: 10.244.1.0/16}`, `4:15: spec.networking.podSubnet: 10.244.1.0/16 is an address in a network and not a network; hint: write 10.244.0.0/16`},
		{"overlap", `networking: {podSubnet: 10.0.0.0/9, serviceSubnet: 10.96.0.0/16}`, `4:38: spec.networking.serviceSubnet: 10.96.0.0/16 overlaps the pod subnet 10.0.0.0/9; hint: choose networks that share no address, such as 10.244.0.0/16 and 10.96.0.0/16`},
		{"overlap with a default", `networking: {podSubnet: 10.96.0.0/17}`, `4:2: spec.networking.serviceSubnet: 10.96.0.0/16 overlaps the pod subnet 10.96.0.0/17; hint: choose networks that share no address, such as 10.244.0.0/16 and 10.96.0.0/16`},
		{"dual stack", `networking: {podSubnet: "10.244.0.0/16,fd00:10:244::/48", serviceSubnet: "10.96.0.0/16,fd00:10:96::/112"}`, ""},
		{"two of a family", `networking: {podSubnet: "10.244.0.0/16,10.245.0.0/16"}`, `4:15: spec.networking.podSubnet: "10.244.0.0/16,10.245.0.0/16" is not a dual-stack pair; hint: give one network, or an IPv4 and an IPv6 one`},
		{"services without pods", `networking: {serviceSubnet: "10.96.0.0/16,fd00:10:96::/112"}`, `4:15: spec.networking.serviceSubnet: fd00:10:96::/112 has no pods that could serve it: the pod subnet is 10.244.0.0/16; hint: add a pod subnet of the same IP family`},
		{"service subnet sizes", `networking: {podSubnet: "192.168.0.0/16,fd00:10:244::/48", serviceSubnet: "10.0.0.0/11,fd00:10:96::/125"}`, `
4:61: spec.networking.serviceSubnet: 10.0.0.0/11 is larger than the API server takes; hint: use a /12 or a smaller one
4:61: spec.networking.serviceSubnet: fd00:10:96::/125 has no tenth address for the cluster's DNS; hint: use a /124 or a larger one`},
		{"pod subnet too small", `networking: {podSubnet: 10.244.0.0/25}`, `4:15: spec.networking.podSubnet: 10.244.0.0/25 has no room for one node, which takes a /24; hint: use a /16 or a larger one`},
		{"pod subnet too large", `networking: {podSubnet: "fd00:10:200::/40", serviceSubnet: "fd00:10:96::/112"}`, `4:15: spec.networking.podSubnet: fd00:10:200::/40 is too large to be cut into a /64 for each node; hint: use a /48 or a smaller one, or set the controller manager's node-cidr-mask-size-ipv6`},
		{"smaller nodes", "networking: {podSubnet: 10.244.0.0/25}\ncontrollerManager: {extraArgs: [{name: node-cidr-mask-size, value: \"26\"}]}", ""},
		{"odd node mask", `controllerManager: {extraArgs: [{name: node-cidr-mask-size, value: x}]}`, `4:62: spec.controllerManager.extraArgs[0].value: "x" is not the length of a prefix`},
		{"more hosts than room", "networking: {podSubnet: 10.244.0.0/24}\nhosts: [{address: a, roles: [control-plane]}, {address: b}]", `4:15: spec.networking.podSubnet: 10.244.0.0/24 has room for 1 nodes of a /24, and there are 2 hosts; hint: use a larger one`},
		{"names in networking", `networking: {dnsDomain: Cluster.local., plugin: flanel, manifests: ["", "https://example.org/x.yaml"]}`, `
4:15: spec.networking.dnsDomain: "Cluster.local." is not a DNS name; hint: use small letters, digits, - and ., with a letter or digit at both ends
4:42: spec.networking.plugin: "flanel" is not a network plugin that myadm installs; hint: did you mean flannel?
4:70: spec.networking.manifests[0]: is empty; hint: name a file
4:74: spec.networking.manifests[1]: "https://example.org/x.yaml" is a URL and not a file; hint: download it and name the file`},

		{"endpoint", `controlPlaneEndpoint: https://lb.example.org:6443/`, `4:2: spec.controlPlaneEndpoint: "https://lb.example.org:6443/" is a URL; hint: write lb.example.org:6443`},
		{"endpoint's port", `controlPlaneEndpoint: lb:0`, `4:2: spec.controlPlaneEndpoint: "lb:0" is not an endpoint; hint: write host or host:port, with an IPv6 address in brackets: lb.example.org:6443, [fd00::1]:6443`},
		{"endpoint's address", `controlPlaneEndpoint: 10.0.0.256`, `4:2: spec.controlPlaneEndpoint: "10.0.0.256" is not an endpoint; hint: write host or host:port, with an IPv6 address in brackets: lb.example.org:6443, [fd00::1]:6443`},
		{"port", `apiServerPort: 10250`, `4:2: spec.apiServerPort: 10250 is the port of the kubelet; hint: use 6443, or another that is free`},
		{"port out of range", `apiServerPort: 65536`, `4:2: spec.apiServerPort: 65536 is not a port; hint: use 6443, or another from 1 to 65535`},

		{"duplicate hosts", `
hosts:
- {name: a, address: 192.0.2.1, advertiseAddress: 198.51.100.1, roles: [control-plane]}
- {name: a, address: 192.0.2.1, advertiseAddress: 198.51.100.1, ssh: {port: 22}}
- {name: b, address: 192.0.2.1, ssh: {port: 2222}}
- {name: c, address: 192.0.2.1, ssh: {bastion: jump}}`, `
7:5: spec.hosts[1].name: has the same name as hosts[0]; hint: each host stands in the list once
7:14: spec.hosts[1].address: has the same address and port as hosts[0]; hint: each host stands in the list once
7:34: spec.hosts[1].advertiseAddress: has the same advertise address as hosts[0]; hint: each host stands in the list once`},
		{"no control plane", `hosts: [{address: a}]`, `4:2: spec.hosts: no host is a control plane; hint: give one host roles: [control-plane]`},
		{"roles", `hosts: [{address: a, roles: [controlplane, control-plane, control-plane]}, {address: b, roles: []}]`, `
4:31: spec.hosts[0].roles[0]: "controlplane" is not a role; hint: did you mean control-plane?
4:60: spec.hosts[0].roles[2]: the role control-plane is here twice; hint: keep one of them
4:90: spec.hosts[1].roles: is empty; hint: use control-plane or worker, or leave it out for worker`},
		{"names and addresses", `
hosts:
- {name: CP_1, address: root@10.0.0.1, roles: [control-plane]}
- {address: "-oProxyCommand=x"}
- {address: "10.0.0.1:22"}
- {address: "[::1]:22"}
- {name: a}`, `
6:5: spec.hosts[0].name: "CP_1" is not a DNS name; hint: use small letters, digits, - and ., with a letter or digit at both ends
6:17: spec.hosts[0].address: "root@10.0.0.1" is not an address; hint: write address: 10.0.0.1 and ssh.user: root
7:5: spec.hosts[1].address: "-oProxyCommand=x" is not an address; hint: write a host name or an IP address
8:5: spec.hosts[2].address: "10.0.0.1:22" is not an address; hint: write the port as ssh.port
9:5: spec.hosts[3].address: "[::1]:22" is not an address; hint: write IPv6 addresses without brackets, and a port as ssh.port
10:4: spec.hosts[4].address: is missing; hint: write the name or the address at which SSH reaches the host`},
		{"addresses inside the cluster", `hosts: [{address: 10.244.0.1, advertiseAddress: 10.96.0.1, roles: [control-plane]}]`, `
4:11: spec.hosts[0].address: 10.244.0.1 lies in the pod subnet 10.244.0.0/16; hint: choose another podSubnet
4:32: spec.hosts[0].advertiseAddress: 10.96.0.1 lies in the service subnet 10.96.0.0/16; hint: choose another serviceSubnet`},
		{"advertise addresses", `hosts: [{address: a, advertiseAddress: cp-1, roles: [control-plane]}, {address: b, advertiseAddress: 127.0.0.1}, {address: c, advertiseAddress: "2001:db8::1"}]`, `
4:23: spec.hosts[0].advertiseAddress: "cp-1" is not an IP address; hint: write the IP address at which the other nodes reach the host
4:85: spec.hosts[1].advertiseAddress: 127.0.0.1 cannot be reached from other nodes; hint: write the IP address at which the other nodes reach the host
4:128: spec.hosts[2].advertiseAddress: 2001:db8::1 is of another IP family than the primary service subnet 10.96.0.0/16; hint: use addresses of one IP family, or put the other service subnet first`},
		{"ssh", `hosts: [{roles: [control-plane], ssh: {port: 70000, user: "-l x", hostKey: "SECRET", bastion: "a,b:0"}}]`, `
4:41: spec.hosts[0].ssh.port: 70000 is not a port; hint: use a number from 1 to 65535
4:54: spec.hosts[0].ssh.user: "-l x" is not a user's name
4:68: spec.hosts[0].ssh.hostKey: is not a public key; hint: copy one line such as "ssh-ed25519 AAAA..." from the host's /etc/ssh/ssh_host_ed25519_key.pub
4:87: spec.hosts[0].ssh.bastion: "b:0" is not a bastion; hint: write [user@]host[:port], and commas between several`},
		{"two host keys", `hosts: [{roles: [control-plane], ssh: {hostKey: "` + hostKey + `\n` + hostKey + `"}}]`, `4:41: spec.hosts[0].ssh.hostKey: is not a public key; hint: copy one line such as "ssh-ed25519 AAAA..." from the host's /etc/ssh/ssh_host_ed25519_key.pub`},
		{"labels", `hosts: [{roles: [control-plane], labels: {"a b": x, ok: "-x"}}]`, `
4:44: spec.hosts[0].labels[a b]: the label's key is not valid:
4:54: spec.hosts[0].labels[ok]: "-x" is not a label's value:`},
		{"taints", `hosts: [{roles: [control-plane], taints: [{key: "", effect: NoSchedul, value: "a b"}, {key: a, effect: NoExecute}, {key: a, effect: NoExecute}]}]`, `
4:45: spec.hosts[0].taints[0].key: "" is not a taint's key:
4:54: spec.hosts[0].taints[0].effect: "NoSchedul" is not an effect; hint: did you mean NoSchedule?
4:73: spec.hosts[0].taints[0].value: "a b" is not a taint's value:
4:117: spec.hosts[0].taints[2]: a:NoExecute is here twice; hint: keep one of them`},

		{"certificates", `certificates: {keyAlgorithm: RSA, caValidity: 1h, validity: 2h, apiServerSANs: [api.example.org, "*.example.org", 10.0.0.1, "::1", "*.10.0.0.1", a_b, 10.0.0.999]}`, `
4:17: spec.certificates.keyAlgorithm: "RSA" is not a key algorithm; hint: use ECDSA-P256, ECDSA-P384, RSA-2048, RSA-3072 or RSA-4096
4:52: spec.certificates.validity: certificates would outlive the CA that signs them (1h0m0s); hint: make it shorter, or caValidity longer
4:133: spec.certificates.apiServerSANs[4]: "*.10.0.0.1" is neither a DNS name nor an IP address; hint: write a name such as api.example.org or *.example.org, or an address
4:147: spec.certificates.apiServerSANs[5]: "a_b" is neither a DNS name nor an IP address; hint: write a name such as api.example.org or *.example.org, or an address
4:152: spec.certificates.apiServerSANs[6]: "10.0.0.999" is neither a DNS name nor an IP address; hint: write a name such as api.example.org or *.example.org, or an address`},
		{"negative validity", `certificates: {caValidity: -1h}`, `4:17: spec.certificates.caValidity: must be positive; hint: leave it out for 87600h`},
		{"extra arguments", `apiServer: {extraArgs: [{name: --v, value: "2"}, {name: v=2, value: ""}, {value: x}, {name: "a b", value: ""}, {name: secure-port, value: "1"}, {name: v, value: "a\nb"}]}`, `
4:27: spec.apiServer.extraArgs[0].name: "--v" has dashes; hint: write v
4:52: spec.apiServer.extraArgs[1].name: "v=2" is more than a name; hint: write name: and value: apart
4:75: spec.apiServer.extraArgs[2].name: is empty; hint: name the flag
4:88: spec.apiServer.extraArgs[3].name: "a b" is not a flag's name
4:114: spec.apiServer.extraArgs[4].name: myadm itself sets the flag secure-port; hint: set spec.apiServerPort
4:156: spec.apiServer.extraArgs[5].value: has a line break; hint: write it in one line`},
		{"the same argument twice", `apiServer: {extraArgs: [{name: v, value: "2"}, {name: v, value: "3"}]}`, ""},
		{"etcd", `etcd: {dataDir: data, extraArgs: [{name: name, value: x}], extraEnvs: [{name: 1A}, {name: B}, {name: B}]}`, `
4:9: spec.etcd.dataDir: "data" is not the path of a folder; hint: write an absolute path, such as /var/lib/etcd
4:37: spec.etcd.extraArgs[0].name: myadm itself sets the flag name; hint: remove it: a member has its node's name
4:74: spec.etcd.extraEnvs[0].name: "1A" is not the name of an environment variable; hint: use letters, digits and _, not a digit first
4:97: spec.etcd.extraEnvs[2].name: B is set twice; hint: keep one of them`},
		{"volumes", `scheduler: {extraVolumes: [{name: a, hostPath: /a, mountPath: /m, pathType: file}, {name: a, hostPath: b, mountPath: /m}, {name: A, hostPath: /, mountPath: /x/../y}]}`, `
4:68: spec.scheduler.extraVolumes[0].pathType: "file" is not a path type; hint: did you mean File?
4:86: spec.scheduler.extraVolumes[1].name: there are two volumes a; hint: give each volume a name of its own
4:95: spec.scheduler.extraVolumes[1].hostPath: "b" is not a path of the host; hint: write an absolute path
4:108: spec.scheduler.extraVolumes[1].mountPath: two volumes are mounted at /m; hint: mount each volume at a path of its own
4:125: spec.scheduler.extraVolumes[2].name: "A" is not a volume's name; hint: use small letters, digits and -
4:134: spec.scheduler.extraVolumes[2].hostPath: "/" is not a path of the host; hint: write an absolute path
4:147: spec.scheduler.extraVolumes[2].mountPath: "/x/../y" is not a path in the container; hint: write an absolute path`},
		{"kubelet and kube-proxy", "networking: {dnsDomain: example.org}\nkubelet: {clusterDomain: cluster.local, staticPodPath: /x, apiVersion: v1}\nkubeProxy: {clusterCIDR: 10.0.0.0/8, clientConnection: {kubeconfig: /x}}", `
5:12: spec.kubelet.clusterDomain: cluster.local contradicts what the cluster has, example.org; hint: set spec.networking.dnsDomain
5:42: spec.kubelet.staticPodPath: /x contradicts what the cluster has, /etc/kubernetes/manifests; hint: remove it: the control plane's manifests are there
5:61: spec.kubelet.apiVersion: v1 contradicts what the cluster has, kubelet.config.k8s.io/v1beta1; hint: remove it
6:14: spec.kubeProxy.clusterCIDR: 10.0.0.0/8 contradicts what the cluster has, 10.244.0.0/16; hint: set spec.networking.podSubnet
6:58: spec.kubeProxy.clientConnection.kubeconfig: /x contradicts what the cluster has, /var/lib/kube-proxy/kubeconfig.conf; hint: remove it`},
		{"the rest", "runtime: {type: docker, socket: unix:///run/x.sock}\nimageRepository: https://mirror/\ndns: {replicas: -1}", `
4:12: spec.runtime.type: "docker" is not a runtime type; hint: use containerd or existing
4:26: spec.runtime.socket: "unix:///run/x.sock" is a URL and not a path; hint: write /run/x.sock
5:2: spec.imageRepository: "https://mirror/" is not an image repository; hint: write host[:port]/folder without scheme, tag or slash at the end, such as registry.k8s.io
6:8: spec.dns.replicas: -1 is negative`},
		{"the socket of our containerd", "runtime: {socket: /run/x.sock}", `4:12: spec.runtime.socket: the containerd that myadm brings listens on /run/containerd/containerd.sock; hint: leave it out, or set runtime.type: existing`},
		{"a socket of one's own", "runtime: {type: existing, socket: /run/x.sock}", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("c.yaml", []byte(head+"spec:\n"+indent(tt.spec)))
			if err != nil {
				t.Fatalf("Parse: %v", err)
			}
			checkMessages(t, Validate(c), tt.want)
		})
	}
}

// indent puts the spec's lines under "spec:", one column in.
func indent(spec string) string { return " " + strings.ReplaceAll(spec, "\n", "\n ") + "\n" }

// checkMessages compares lines; a wanted line that ends with a colon, or has no hint, may go on: the rest is upstream's.
func checkMessages(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		err = errors.New("")
	}
	got := strings.Split(err.Error(), "\n")
	wanted := strings.Split(strings.TrimPrefix(want, "\n"), "\n")
	if len(got) != len(wanted) {
		t.Fatalf("got %d messages, want %d:\n%v", len(got), len(wanted), err)
	}
	for i := range wanted {
		g := strings.TrimPrefix(got[i], "c.yaml:")
		if g != wanted[i] && !(strings.HasPrefix(g, wanted[i]) && !strings.Contains(wanted[i], "; hint:")) {
			t.Errorf("message %d:\n got %s\nwant %s", i, g, wanted[i])
		}
	}
}

func TestValidateClusterFromFlags(t *testing.T) {
	c := &Cluster{Spec: Spec{KubernetesVersion: "v1.9.0", Networking: Networking{PodSubnet: "x"}}}
	c.GivenBy("--pod-subnet", "spec.networking.podSubnet")
	checkMessages(t, Validate(c), `
spec.kubernetesVersion: Kubernetes v1.9.0 is not supported; hint: use v1.36 or v1.37, such as v1.37.2
--pod-subnet: spec.networking.podSubnet: "x" is not a network; hint: write a network as ADDRESS/BITS, such as 10.244.0.0/16 or fd00:10:244::/48`)
	if c.Spec.APIServerPort != 0 {
		t.Error("Validate filled in defaults")
	}
}

func TestValidateNamesTheFlagInsteadOfTheLine(t *testing.T) {
	c := mustParse(t, head+"spec: {kubernetesVersion: v1.37.2}\n")
	c.Spec.KubernetesVersion = "1"
	c.GivenBy("MYADM_KUBERNETES_VERSION", "spec.kubernetesVersion")
	checkMessages(t, Validate(c), `MYADM_KUBERNETES_VERSION: spec.kubernetesVersion: "1" is not a Kubernetes version; hint: write it as v1.37.2, or as a label: stable, stable-1.37, latest-1.37`)
}

func TestValidateJoinNeedsNoControlPlane(t *testing.T) {
	c := mustParse(t, head+"spec: {hosts: [{address: a}], apiServerPort: 70000}\n")
	checkMessages(t, ValidateJoin(c), "/lab/cluster.yaml:3:31: spec.apiServerPort: 70000 is not a port; hint: use 6443, or another from 1 to 65535")
}

func TestValidateFiles(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"key": 0o600, "sudo": 0o644, "net.yaml": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Parse(filepath.Join(dir, "c.yaml"), []byte(head+`
spec:
  artifacts: {bundle: .}
  networking: {manifests: [net.yaml, none.yaml]}
  hosts: [{ssh: {keyFile: key, sudoPasswordFile: sudo}}]
`))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(ValidateFiles(c).Error(), dir+"/", "")
	want := `c.yaml:6:38: spec.networking.manifests[1]: stat none.yaml: no such file or directory; hint: relative paths start at the document's folder
c.yaml:7:32: spec.hosts[0].ssh.sudoPasswordFile: others can read the password file; hint: chmod 600 sudo`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func TestDidYouMean(t *testing.T) {
	words := []string{"podSubnet", "serviceSubnet", "plugin"}
	for given, want := range map[string]string{
		"podSubnets": "podSubnet", "PODSUBNET": "podSubnet", "plugn": "plugin", "lpgni": "", "servicesubnet": "serviceSubnet",
		"x": "", "": "", "cidr": "", "subnet": "",
	} {
		got := strings.TrimSuffix(strings.TrimPrefix(didYouMean(given, words), "did you mean "), "?")
		if got != want {
			t.Errorf("didYouMean(%q) = %q, want %q", given, got, want)
		}
	}
}
