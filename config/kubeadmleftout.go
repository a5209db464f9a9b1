package config

import (
	"reflect"
	"strings"
	"time"
)

// leftOut is a field of kubeadm's that a Cluster has no counterpart of. It is told when it has a value other than nothing
// and fine, which is what it is in every cluster of myadm's anyway.
type leftOut struct {
	path          string
	fine          any
	message, hint string
}

const (
	oneRun     = "is for one run of kubeadm, and a document says what always holds"
	ownImage   = "the image goes with the Kubernetes version"
	mirrorHint = "take them from elsewhere by spec.imageRepository, or by a mirror in spec.registries"
	ownTimeout = "myadm has its own limits of time"
	remoteFile = "is a file of the control planes, and in the document it is one of the machine where myadm runs"
	copyHint   = "copy it there, and name the copy"
)

// ofOneRun is what InitConfiguration and JoinConfiguration share.
var ofOneRun = []leftOut{
	{"dryRun", nil, oneRun, "`myadm plan` shows what would be done"},
	{"skipPhases", nil, oneRun, "give --skip to the command"},
	{"nodeRegistration.ignorePreflightErrors", nil, oneRun, "give --ignore-preflight-errors to the command; the names are myadm's own"},
	{"nodeRegistration.imagePullPolicy", "IfNotPresent", "images come from a bundle or a mirror, and only when they are missing", ""},
	{"nodeRegistration.imagePullSerial", true, "myadm itself decides how many images are fetched at a time", ""},
	{"patches.directory", nil, "patches of kubeadm's are not read", "set what they change in the document: extraArgs, extraVolumes, extraEnvs, kubelet"},
	{"timeouts.controlPlaneComponentHealthCheck", "4m0s", ownTimeout, ""},
	{"timeouts.kubeletHealthCheck", "4m0s", ownTimeout, ""},
	{"timeouts.kubernetesAPICall", "1m0s", ownTimeout, ""},
	{"timeouts.etcdAPICall", "2m0s", ownTimeout, ""},
	{"timeouts.tlsBootstrap", "5m0s", ownTimeout, ""},
	{"timeouts.discovery", "5m0s", ownTimeout, ""},
	{"timeouts.upgradeManifests", "5m0s", ownTimeout, ""},
}

var leftOuts = map[string][]leftOut{
	"InitConfiguration": append([]leftOut{
		{"bootstrapTokens", nil, "with a document hosts join without a token", "`myadm token create` makes one in the cluster"},
	}, ofOneRun...),
	"JoinConfiguration": append([]leftOut{
		{"caCertPath", PKIDir + "/ca.crt", "myadm keeps certificates in " + PKIDir, ""},
	}, ofOneRun...),
	"ClusterConfiguration": {
		{"certificatesDir", PKIDir, "myadm keeps certificates in " + PKIDir, ""},
		{"featureGates", nil, "myadm has none of kubeadm's feature gates", "Kubernetes' own are set by the flag feature-gates in extraArgs"},
		{"dns.disabled", nil, "myadm installs CoreDNS always", ""},
		{"dns.imageRepository", nil, ownImage, mirrorHint},
		{"dns.imageTag", nil, ownImage, ""},
		{"proxy.disabled", nil, "myadm installs kube-proxy always", ""},
		{"etcd.local.imageRepository", nil, ownImage, mirrorHint},
		{"etcd.local.imageTag", nil, ownImage, ""},
		{"etcd.local.serverCertSANs", nil, "etcd's certificates have the names that kubeadm gives by itself, and no further ones", ""},
		{"etcd.local.peerCertSANs", nil, "etcd's certificates have the names that kubeadm gives by itself, and no further ones", ""},
		{"etcd.external.httpEndpoints", nil, "an external etcd is reached by endpoints alone", ""},
		{"etcd.external.caFile", nil, remoteFile, copyHint},
		{"etcd.external.certFile", nil, remoteFile, copyHint},
		{"etcd.external.keyFile", nil, remoteFile, copyHint},
	},
}

// leftOut tells what the documents say beyond what a Cluster can.
func (t *translation) leftOut() {
	for _, d := range t.others {
		t.found = append(t.found, FieldError{File: t.name, Line: d.line, Path: d.kind, Message: "says nothing of the cluster", Hint: "myadm's commands have flags for it"})
	}
	for _, d := range append([]*kubeadmDocument{t.init, t.cluster}, t.joins...) {
		if d == nil {
			continue
		}
		for _, f := range leftOuts[d.kind] {
			if v := d.value(f.path); v != nil && !emptyValue(v) && !sameValue(v, f.fine) {
				t.say(d, d.kind+"."+f.path, f.hint, "%s", f.message)
			}
		}
	}
}

// value is the plain value at a path of field names, or nil.
func (d *kubeadmDocument) value(path string) any {
	var v any = d.tree
	for name := range strings.SplitSeq(path, ".") {
		fields, _ := v.(map[string]any)
		v = fields[name]
	}
	return v
}

// emptyValue reports what counts as not given: false, "" and empty lists and fields. (Of whole numbers none is left out.)
func emptyValue(v any) bool {
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Map, reflect.Slice:
		return r.Len() == 0
	}
	return r.IsZero()
}

// sameValue compares plain values; durations may be written in several ways.
func sameValue(v, fine any) bool {
	text, isText := v.(string)
	fineText, _ := fine.(string)
	if a, err := time.ParseDuration(text); isText && err == nil {
		b, err := time.ParseDuration(fineText)
		return err == nil && a == b
	}
	return v == fine
}
