package config

import (
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Validate says everything that is wrong with c, as Errors; each names its line when c was loaded from a file. It judges
// c as it will be with its defaults, and changes nothing. It looks at the document alone: ValidateFiles looks at the disk.
func Validate(c *Cluster) error { return validate(c, true) }

// ValidateJoin is Validate for hosts that join a cluster by token: no control plane needs to be among them.
func ValidateJoin(c *Cluster) error { return validate(c, false) }

func validate(c *Cluster, wantControlPlane bool) error {
	v := &validator{c: c.withDefaults()}
	v.document()
	v.networking()
	v.endpoint()
	v.loadBalancer()
	v.hosts(wantControlPlane)
	v.certificates()
	v.component("spec.apiServer", c.Spec.APIServer, ownedByAPIServer)
	v.component("spec.controllerManager", c.Spec.ControllerManager, ownedByControllerManager)
	v.component("spec.scheduler", c.Spec.Scheduler, nil)
	v.etcd()
	v.kubelet()
	v.kubeProxy()
	v.runtime()
	v.artifacts()
	v.registries()
	v.proxy()
	return v.errs.err()
}

// validator collects what is wrong with a Cluster that has its defaults.
type validator struct {
	c    *Cluster
	errs Errors
}

// errorf adds an error about the field at path.
func (v *validator) errorf(path, hint, format string, args ...any) {
	v.errs = append(v.errs, v.c.source.place(FieldError{Path: path, Message: fmt.Sprintf(format, args...), Hint: hint}))
}

// wrap adds an error whose text carries its hint already.
func (v *validator) wrap(path string, err error) {
	message, hint, _ := strings.Cut(err.Error(), "; hint: ")
	v.errorf(path, hint, "%s", message)
}

func (v *validator) document() {
	s := v.c.Spec
	if v.c.APIVersion != APIVersion {
		v.errorf("apiVersion", "write "+APIVersion, "%q is not what myadm reads", v.c.APIVersion)
	}
	if v.c.Kind != Kind {
		v.errorf("kind", "write "+Kind, "%q is not what myadm reads", v.c.Kind)
	}
	v.dnsName("metadata.name", v.c.Metadata.Name)
	if err := CheckWanted(s.KubernetesVersion); err != nil {
		v.wrap("spec.kubernetesVersion", err)
	}
	if err := CheckImageRepository(s.ImageRepository); err != nil {
		v.wrap("spec.imageRepository", err)
	}
	if *s.DNS.Replicas < 0 {
		v.errorf("spec.dns.replicas", "", "%d is negative", *s.DNS.Replicas)
	}
}

// dnsName checks what Kubernetes calls a DNS-1123 subdomain.
func (v *validator) dnsName(path, name string) {
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		v.errorf(path, "use small letters, digits, - and ., with a letter or digit at both ends", "%q is not a DNS name", name)
	}
}

var runtimeTypes = []string{RuntimeContainerd, RuntimeExisting}

func (v *validator) runtime() {
	r := v.c.Spec.Runtime
	if hint, ok := among(r.Type, runtimeTypes); !ok {
		v.errorf("spec.runtime.type", hint, "%q is not a runtime type", r.Type)
	}
	const socket = "spec.runtime.socket"
	switch {
	case strings.Contains(r.Socket, "://"):
		v.errorf(socket, "write "+r.Socket[strings.Index(r.Socket, "://")+3:], "%q is a URL and not a path", r.Socket)
	case !absolute(r.Socket):
		v.errorf(socket, "write an absolute path, such as "+ContainerdSocket, "%q is not a path of a socket", r.Socket)
	case r.Type == RuntimeContainerd && r.Socket != ContainerdSocket:
		v.errorf(socket, "leave it out, or set runtime.type: "+RuntimeExisting, "the containerd that myadm brings listens on %s", ContainerdSocket)
	}
}

var deliveries = []string{DeliveryAuto, DeliveryDownload, DeliveryUpload, DeliveryPeer}

func (v *validator) artifacts() {
	a := v.c.Spec.Artifacts
	if a.Mirror != "" {
		if _, err := ParseMirror(a.Mirror); err != nil {
			v.wrap("spec.artifacts.mirror", err)
		}
		if a.Bundle != "" {
			v.errorf("spec.artifacts.mirror", "keep one of them", "there is a bundle, which says where all of it comes from")
		}
	} else {
		for _, of := range []struct{ field, file string }{{"caFile", a.CAFile}, {"credentialsFile", a.CredentialsFile}} {
			if of.file != "" {
				v.errorf("spec.artifacts."+of.field, "name the mirror, or remove it", "there is no mirror that it is of")
			}
		}
	}
	hint, ok := among(a.Delivery, deliveries)
	switch {
	case !ok:
		v.errorf("spec.artifacts.delivery", hint, "%q is no way to deliver artifacts", a.Delivery)
	case a.Delivery == DeliveryDownload && a.Bundle != "":
		v.errorf("spec.artifacts.delivery", "leave it out, or name a mirror instead of the bundle", "hosts cannot download what is in a bundle")
	}
	v.localFile("spec.artifacts.caFile", a.CAFile)
	v.localFile("spec.artifacts.credentialsFile", a.CredentialsFile)
	v.signatures(a)
}

func (v *validator) signatures(a Artifacts) {
	const at = "spec.artifacts.signatures"
	s := a.Signatures
	if s == (Signatures{}) {
		return
	}
	if a.Mirror == "" {
		field := at + ".roots"
		if s.Roots == "" {
			field = at + ".required"
		}
		v.errorf(field, "name the mirror, or remove it; signatures of what is in a bundle are checked by bundle create", "there is no mirror whose files have signatures")
		return
	}
	if s.Roots == "" {
		for _, of := range []struct {
			field string
			set   bool
		}{{"required", s.Required}, {"identity", s.Identity != ""}, {"issuer", s.Issuer != ""}} {
			if of.set {
				v.errorf(at+"."+of.field, "name the file of roots, by roots or --signature-roots; docs/signatures.md says where to get it", "it is not said whose signatures to believe")
			}
		}
	}
	v.localFile(at+".roots", s.Roots)
	if s.Issuer != "" && !strings.HasPrefix(s.Issuer, "https://") {
		v.errorf(at+".issuer", "write a URL, such as https://accounts.google.com", "%q is not who vouches for an identity", s.Issuer)
	}
}

// absolute reports a clean absolute path of a host other than the root folder.
func absolute(p string) bool {
	return path.IsAbs(p) && path.Clean(p) == strings.TrimSuffix(p, "/") && !strings.ContainsAny(p, "\x00\n:")
}

func (v *validator) envs(path string, envs []corev1.EnvVar) {
	seen := map[string]bool{}
	for i, e := range envs {
		at := fmt.Sprintf("%s[%d].name", path, i)
		switch {
		case len(validation.IsEnvVarName(e.Name)) > 0:
			v.errorf(at, "use letters, digits and _, not a digit first", "%q is not the name of an environment variable", e.Name)
		case seen[e.Name]:
			v.errorf(at, "keep one of them", "%s is set twice", e.Name)
		}
		seen[e.Name] = true
	}
}
