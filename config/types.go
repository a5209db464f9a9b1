// Package config is the Cluster document: what a user says of a cluster. It holds the types, their defaults, the
// validation that names file, line and field, and the versions that myadm knows.
package config

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// APIVersion and Kind are the document's type, as its first two lines say it.
const (
	APIVersion = "myadm.dev/v1alpha1"
	Kind       = "Cluster"
)

// Cluster is the whole document.
//
// Its comments, and those of the types below, are also what the JSON Schema says: go generate puts them there. Editors show
// the one behind a field, or the first paragraph of the one above.
type Cluster struct {
	APIVersion string   `json:"apiVersion"` // the version of the document's format
	Kind       string   `json:"kind"`       // what the document describes
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`

	source *source // where the fields stand in the file; nil for a Cluster made from flags
}

// Metadata names the cluster.
type Metadata struct {
	Name string `json:"name"` // the kubeconfig's cluster name; default "kubernetes", as kubeadm's
}

// Spec is the cluster that is wanted.
type Spec struct {
	KubernetesVersion    string       `json:"kubernetesVersion,omitempty"`    // vX.Y.Z, or a label that stands for one, such as stable-1.37; it is resolved before anything is compared with it
	ControlPlaneEndpoint string       `json:"controlPlaneEndpoint,omitempty"` // host[:port] of a load balancer or a DNS name; empty: the virtual IP, or the first control plane
	APIServerPort        int32        `json:"apiServerPort,omitempty"`        // where the API servers listen; default 6443
	LoadBalancer         LoadBalancer `json:"loadBalancer,omitzero"`
	Networking           Networking   `json:"networking,omitzero"`
	Hosts                []Host       `json:"hosts,omitempty"` // the machines; without any, the one where myadm runs
	Certificates         Certificates `json:"certificates,omitzero"`
	Etcd                 Etcd         `json:"etcd,omitzero"`
	APIServer            Component    `json:"apiServer,omitzero"`         // what is added to kube-apiserver
	ControllerManager    Component    `json:"controllerManager,omitzero"` // what is added to kube-controller-manager
	Scheduler            Component    `json:"scheduler,omitzero"`         // what is added to kube-scheduler
	DNS                  DNS          `json:"dns,omitzero"`

	// Kubelet and KubeProxy are checked against upstream's types and kept as given, because those types drop what is
	// written out as empty (enforceNodeAllocatable: []) when they are marshalled. Integers are int64, other numbers float64.
	Kubelet   map[string]any `json:"kubelet,omitempty"`   // fields of KubeletConfiguration (kubelet.config.k8s.io/v1beta1), for every node; they win over what myadm sets
	KubeProxy map[string]any `json:"kubeProxy,omitempty"` // fields of KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1); they win over what myadm sets

	Runtime         Runtime    `json:"runtime,omitzero"`
	Artifacts       Artifacts  `json:"artifacts,omitzero"`
	Registries      []Registry `json:"registries,omitempty"` // where the hosts' containerd finds images
	Proxy           Proxy      `json:"proxy,omitzero"`
	ImageRepository string     `json:"imageRepository,omitempty"` // default registry.k8s.io; any other holds all images side by side: REPO/coredns, REPO/flannel
}

// Networking is the cluster's addresses and the plugin that joins the pods.
type Networking struct {
	PodSubnet     string   `json:"podSubnet,omitempty"`     // the pods' network: one CIDR, or an IPv4 and an IPv6 one with a comma between; default 10.244.0.0/16
	ServiceSubnet string   `json:"serviceSubnet,omitempty"` // the services' network, likewise; default 10.96.0.0/16
	DNSDomain     string   `json:"dnsDomain,omitempty"`     // the domain of the services' names; default cluster.local
	Plugin        string   `json:"plugin,omitempty"`        // what joins the pods: flannel (default), or none, for one of your own
	Manifests     []string `json:"manifests,omitempty"`     // files with objects, applied server-side once the API answers
}

// The network plugins.
const (
	PluginFlannel = "flannel"
	PluginNone    = "none"
)

// Role is what a host does in the cluster.
type Role string

// The roles. A host with both is a control plane that also runs workloads.
const (
	RoleControlPlane Role = "control-plane"
	RoleWorker       Role = "worker"
)

// Host is a machine of the cluster.
type Host struct {
	Name             string            `json:"name,omitempty"`             // the Node's name; default: the host's own name, as it says it
	Address          string            `json:"address,omitempty"`          // where SSH reaches it: a name or an address; empty for this machine, as the only host
	AdvertiseAddress string            `json:"advertiseAddress,omitempty"` // the IP that other nodes use; default: address when it is an IP of the host, else the source of its default route
	Roles            []Role            `json:"roles,omitzero"`             // what the host does: control-plane, worker, or both; default [worker]
	SSH              SSH               `json:"ssh,omitzero"`
	Labels           map[string]string `json:"labels,omitempty"` // of the Node
	Taints           []corev1.Taint    `json:"taints,omitzero"`  // of the Node; default for a control plane without the role worker: its NoSchedule taint; []: none

	FlagLabels []string `json:"-"` // names of Labels that a command line gives, and not the document
}

// HasRole reports whether the host has the role.
func (h Host) HasRole(r Role) bool { return slices.Contains(h.Roles, r) }

// SSH is how a host is reached. What is empty comes from the user's ssh_config, then from ssh's own defaults.
type SSH struct {
	User             string `json:"user,omitempty"`             // who logs in; other users than root need sudo
	Port             int    `json:"port,omitempty"`             // where sshd listens
	KeyFile          string `json:"keyFile,omitempty"`          // a private key; relative to the document, ~ is the home folder
	HostKey          string `json:"hostKey,omitempty"`          // the host's public key in authorized_keys form; pinned, known_hosts is not asked
	Bastion          string `json:"bastion,omitempty"`          // [user@]host[:port] to go through, as ProxyJump; commas join several
	SudoPasswordFile string `json:"sudoPasswordFile,omitempty"` // a file whose first line is the password for sudo
}

// Certificates is the PKI's settings.
type Certificates struct {
	KeyAlgorithm  string          `json:"keyAlgorithm,omitempty"`  // of all keys: ECDSA-P256 (default), ECDSA-P384, RSA-2048, RSA-3072, RSA-4096
	CAValidity    metav1.Duration `json:"caValidity,omitzero"`     // how long the authorities are valid; default 87600h
	Validity      metav1.Duration `json:"validity,omitzero"`       // how long all other certificates are valid; default 8760h
	APIServerSANs []string        `json:"apiServerSANs,omitempty"` // further names and addresses in the API server's certificate
}

// Component is what a user adds to a static pod.
type Component struct {
	ExtraArgs    []Arg           `json:"extraArgs,omitempty"`    // flags; each replaces every flag of its name that myadm sets; a name may come several times
	ExtraVolumes []HostPathMount `json:"extraVolumes,omitempty"` // paths of the host in the static pod
	ExtraEnvs    []corev1.EnvVar `json:"extraEnvs,omitempty"`    // environment variables
	Patch        map[string]any  `json:"patch,omitempty"`        // a strategic merge patch of the pod, such as spec: {containers: [{name: kube-apiserver, resources: ...}]}
}

// Arg is one command-line flag, without its dashes.
type Arg struct {
	Name  string `json:"name"`  // without dashes: audit-log-path
	Value string `json:"value"` // what follows the = sign
}

// HostPathMount is a path of the host inside a static pod.
type HostPathMount struct {
	Name      string              `json:"name"`               // the volume's, its own in the pod
	HostPath  string              `json:"hostPath"`           // an absolute path
	MountPath string              `json:"mountPath"`          // an absolute path in the container
	ReadOnly  bool                `json:"readOnly,omitempty"` // the container cannot write there
	PathType  corev1.HostPathType `json:"pathType,omitempty"` // what must be at the path, or is made there; default: no check, and File with a file

	// File is on the operator's machine, relative to the document: what stands at HostPath on every control plane, for root
	// alone. The component is started anew when it changes.
	File string `json:"file,omitempty"`

	Content []byte `json:"-"` // of File, once ValidateFiles has read it
}

// Etcd is the stacked etcd: a member on each control plane. Or it is External, and then the rest has no meaning.
type Etcd struct {
	DataDir   string          `json:"dataDir,omitempty"`   // where each member keeps its data; default /var/lib/etcd
	ExtraArgs []Arg           `json:"extraArgs,omitempty"` // flags, as of the API server
	ExtraEnvs []corev1.EnvVar `json:"extraEnvs,omitempty"` // environment variables
	External  *ExternalEtcd   `json:"external,omitempty"`  // an etcd of somebody else's in its place
	Patch     map[string]any  `json:"patch,omitempty"`     // a strategic merge patch of the pod, whose container is etcd
}

// ExternalEtcd is an etcd that somebody else runs. The files are PEM, on the operator's machine, relative to the document;
// on the hosts they stand where the stacked etcd's would.
type ExternalEtcd struct {
	Endpoints []string `json:"endpoints,omitempty"` // https://host:port of each member
	CAFile    string   `json:"caFile,omitempty"`    // the authority of its servers
	CertFile  string   `json:"certFile,omitempty"`  // the API servers' client certificate
	KeyFile   string   `json:"keyFile,omitempty"`   // the key of that certificate
}

// DNS is CoreDNS.
type DNS struct {
	Replicas *int32 `json:"replicas,omitempty"` // how many pods; default 2
}

// Runtime is the container runtime.
type Runtime struct {
	Type   string `json:"type,omitempty"`   // containerd (default): myadm brings it; existing: the host has one
	Socket string `json:"socket,omitempty"` // the CRI's unix socket; default /run/containerd/containerd.sock
}

// The runtime types.
const (
	RuntimeContainerd = "containerd"
	RuntimeExisting   = "existing"
)

// Artifacts is where binaries and images come from.
type Artifacts struct {
	Bundle          string `json:"bundle,omitempty"`          // a bundle's folder or file; relative to the document
	Mirror          string `json:"mirror,omitempty"`          // URL of a mirror of the makers' servers, to fetch from instead: https://host[:port][/folder]
	CAFile          string `json:"caFile,omitempty"`          // an authority of the mirror besides those of the system; PEM
	CredentialsFile string `json:"credentialsFile,omitempty"` // a docker config.json with what the mirror asks for; default: docker's own
	Delivery        string `json:"delivery,omitempty"`        // how they reach hosts: download, upload, peer or auto (default), the cheapest of these that a host can do

	Signatures Signatures `json:"signatures,omitzero"` // whose signatures must be on what is fetched
}

// Signatures is whose signatures must be on what is fetched from the mirror. Without roots none are looked at.
type Signatures struct {
	Roots    string `json:"roots,omitempty"`    // a file with authorities and logs to believe: sigstore's trusted_root.json, or PEM
	Identity string `json:"identity,omitempty"` // who signs, as his certificate names him; default: who signs the releases of Kubernetes
	Issuer   string `json:"issuer,omitempty"`   // URL of who vouches for the identity; default: likewise
	Required bool   `json:"required,omitempty"` // what its makers sign is refused without its signature
}

// The ways in which artifacts reach hosts.
const (
	DeliveryAuto     = "auto"     // each host the cheapest way that it has
	DeliveryDownload = "download" // hosts fetch them from the mirror, or from the makers
	DeliveryUpload   = "upload"   // each host is sent all of them
	DeliveryPeer     = "peer"     // each is sent once, and hosts pass it on
)

// The key algorithms, named as kubeadm's encryptionAlgorithm names them.
const (
	KeyECDSAP256 = "ECDSA-P256"
	KeyECDSAP384 = "ECDSA-P384"
	KeyRSA2048   = "RSA-2048"
	KeyRSA3072   = "RSA-3072"
	KeyRSA4096   = "RSA-4096"
)
