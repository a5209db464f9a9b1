package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// Flags that myadm refuses as an extra argument, each with what to do instead: other files and objects have the same
// value in them, and would not follow.
var (
	ownedByAPIServer = map[string]string{
		"advertise-address":        "set hosts[].advertiseAddress",
		"secure-port":              "set spec.apiServerPort",
		"service-cluster-ip-range": "set spec.networking.serviceSubnet",
	}
	ownedByControllerManager = map[string]string{
		"cluster-cidr":             "set spec.networking.podSubnet",
		"cluster-name":             "set metadata.name",
		"service-cluster-ip-range": "set spec.networking.serviceSubnet",
	}
	ownedByEtcd = map[string]string{
		"data-dir":                    "set spec.etcd.dataDir",
		"name":                        "remove it: a member has its node's name",
		"initial-cluster":             "remove it: it differs from member to member",
		"initial-cluster-state":       "remove it: it differs from member to member",
		"initial-advertise-peer-urls": "set hosts[].advertiseAddress",
		"advertise-client-urls":       "set hosts[].advertiseAddress",
	}
)

var (
	flagName      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	repository    = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	keyAlgorithms = []string{KeyECDSAP256, KeyECDSAP384, KeyRSA2048, KeyRSA3072, KeyRSA4096}
	pathTypes     = []corev1.HostPathType{
		corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory, corev1.HostPathFileOrCreate,
		corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev,
	}
)

func (v *validator) certificates() {
	const path = "spec.certificates"
	c := v.c.Spec.Certificates
	if hint, ok := among(c.KeyAlgorithm, keyAlgorithms); !ok {
		v.errorf(path+".keyAlgorithm", hint, "%q is not a key algorithm", c.KeyAlgorithm)
	}
	ca, leaf := c.CAValidity.Duration, c.Validity.Duration
	switch {
	case ca < 0:
		v.errorf(path+".caValidity", "leave it out for 87600h", "must be positive")
	case leaf < 0:
		v.errorf(path+".validity", "leave it out for 8760h", "must be positive")
	case leaf > ca:
		v.errorf(path+".validity", "make it shorter, or caValidity longer", "certificates would outlive the CA that signs them (%s)", ca)
	}
	for i, san := range c.APIServerSANs {
		name := strings.TrimPrefix(san, "*.")
		if _, err := netip.ParseAddr(name); err == nil && name != san || !isHostName(name) {
			v.errorf(fmt.Sprintf("%s.apiServerSANs[%d]", path, i), "write a name such as api.example.org or *.example.org, or an address", "%q is neither a DNS name nor an IP address", san)
		}
	}
}

func (v *validator) etcd() {
	e := v.c.Spec.Etcd
	if e.External != nil {
		v.externalEtcd(e)
		return
	}
	if !absolute(e.DataDir) {
		v.errorf("spec.etcd.dataDir", "write an absolute path, such as "+EtcdDataDir, "%q is not the path of a folder", e.DataDir)
	}
	v.args("spec.etcd.extraArgs", e.ExtraArgs, ownedByEtcd)
	v.envs("spec.etcd.extraEnvs", e.ExtraEnvs)
	v.patch("spec.etcd.patch", e.Patch)
}

func (v *validator) component(path string, c Component, owned map[string]string) {
	v.args(path+".extraArgs", c.ExtraArgs, owned)
	v.volumes(path+".extraVolumes", c.ExtraVolumes)
	v.envs(path+".extraEnvs", c.ExtraEnvs)
	v.patch(path+".patch", c.Patch)
}

// patch refuses what no pod has, and what makes a pod another component's.
func (v *validator) patch(path string, patch map[string]any) {
	if len(patch) == 0 {
		return
	}
	data, err := yaml.Marshal(patch)
	if err != nil {
		v.errorf(path, "", "%v", err)
		return
	}
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict(data, &pod); err != nil {
		v.errorf(path, "it is a pod of which only what changes is written", "%v", err)
		return
	}
	if pod.Name != "" || pod.Namespace != "" || pod.Kind != "" || pod.APIVersion != "" {
		v.errorf(path, "leave it out", "a patch cannot change the pod's name, namespace or kind")
	}
}

func (v *validator) args(path string, args []Arg, owned map[string]string) {
	for i, a := range args {
		at := fmt.Sprintf("%s[%d].name", path, i)
		instead, refused := owned[a.Name]
		switch bare := strings.TrimLeft(a.Name, "-"); {
		case a.Name == "":
			v.errorf(at, "name the flag", "is empty")
		case bare != a.Name:
			v.errorf(at, "write "+bare, "%q has dashes", a.Name)
		case strings.Contains(a.Name, "="):
			v.errorf(at, "write name: and value: apart", "%q is more than a name", a.Name)
		case !flagName.MatchString(a.Name):
			v.errorf(at, "", "%q is not a flag's name", a.Name)
		case refused:
			v.errorf(at, instead, "myadm itself sets the flag %s", a.Name)
		}
		if strings.ContainsAny(a.Value, "\x00\n") {
			v.errorf(fmt.Sprintf("%s[%d].value", path, i), "write it in one line", "has a line break")
		}
	}
}

func (v *validator) volumes(path string, volumes []HostPathMount) {
	for i, m := range volumes {
		at := fmt.Sprintf("%s[%d]", path, i)
		earlier := volumes[:i]
		switch {
		case len(validation.IsDNS1123Label(m.Name)) > 0:
			v.errorf(at+".name", "use small letters, digits and -", "%q is not a volume's name", m.Name)
		case slices.ContainsFunc(earlier, func(o HostPathMount) bool { return o.Name == m.Name }):
			v.errorf(at+".name", "give each volume a name of its own", "there are two volumes %s", m.Name)
		}
		if !absolute(m.HostPath) {
			v.errorf(at+".hostPath", "write an absolute path", "%q is not a path of the host", m.HostPath)
		}
		switch {
		case !absolute(m.MountPath):
			v.errorf(at+".mountPath", "write an absolute path", "%q is not a path in the container", m.MountPath)
		case slices.ContainsFunc(earlier, func(o HostPathMount) bool { return o.MountPath == m.MountPath }):
			v.errorf(at+".mountPath", "mount each volume at a path of its own", "two volumes are mounted at %s", m.MountPath)
		}
		if m.File != "" && m.PathType != "" && m.PathType != corev1.HostPathFile {
			v.errorf(at+".pathType", "leave it out, or write File", "a volume with a file is no %s", m.PathType)
		}
		if hint, ok := among(m.PathType, pathTypes); !ok {
			v.errorf(at+".pathType", hint, "%q is not a path type", m.PathType)
		}
	}
}
