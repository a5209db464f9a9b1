package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What kubeadm has no field for does not get lost when a document learns of its cluster.
func TestComponentKeepsWhatKubeadmCannotTell(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "audit.yaml"), []byte("kind: Policy\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Parse(filepath.Join(dir, "c.yaml"), []byte(head+`
spec:
  hosts: [{address: 192.0.2.11, roles: [control-plane]}]
  etcd: {patch: {spec: {priority: 7}}}
  apiServer:
    patch: {metadata: {labels: {a: b}}}
    extraVolumes: [{name: audit, file: audit.yaml, hostPath: /etc/audit.yaml, mountPath: /etc/audit.yaml}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := ValidateFiles(c); err != nil {
		t.Fatal(err)
	}
	SetDefaults(c)
	if got := string(c.Spec.APIServer.ExtraVolumes[0].Content); got != "kind: Policy\n" {
		t.Errorf("the file is %q", got)
	}
	data, err := ToKubeadm(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, unknown := range []string{"patch", "file:", "audit.yaml\n  file"} {
		if strings.Contains(string(data), unknown) {
			t.Errorf("kubeadm is told %q:\n%s", unknown, data)
		}
	}
	if needed := c.NeededFiles(); len(needed) > 0 {
		t.Errorf("the document places %v itself", needed)
	}
	var joined Cluster // by token: what the cluster tells is all that is known
	if err := FromKubeadm(data, &joined); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]NeededFile{{"spec.apiServer.extraVolumes[0]", "/etc/audit.yaml"}}, joined.NeededFiles()); diff != "" {
		t.Errorf("files that a host without the document needs (-want +got):\n%s", diff)
	}
	was := *c
	if err := FromKubeadm(data, c); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(was.Spec.APIServer.ExtraVolumes, c.Spec.APIServer.ExtraVolumes); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	if c.Spec.APIServer.Patch == nil || c.Spec.Etcd.Patch == nil {
		t.Error("a patch is lost")
	}
}

func TestValidateRefusesPatchesAndFiles(t *testing.T) {
	for _, tt := range []struct{ spec, want string }{
		{`{apiServer: {patch: {spec: {containers: [{name: kube-apiserver, resource: {}}]}}}}`, `spec.apiServer.patch: `},
		{`{scheduler: {patch: {metadata: {name: mine}}}}`, "spec.scheduler.patch: a patch cannot change the pod's name"},
		{`{etcd: {patch: {kind: Deployment}}}`, "spec.etcd.patch: a patch cannot change"},
		{`{apiServer: {extraVolumes: [{name: a, file: a, hostPath: /a, mountPath: /a, pathType: Directory}]}}`, "a volume with a file is no Directory"},
	} {
		c := mustParse(t, head+"spec: "+tt.spec)
		SetDefaults(c)
		if err := Validate(c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.spec, err, tt.want)
		}
	}
	dir := t.TempDir()
	c := mustParse(t, head+"spec: {apiServer: {extraVolumes: [{name: a, file: "+dir+", hostPath: /a, mountPath: /a}]}}")
	if err := ValidateFiles(c); err == nil || !strings.Contains(err.Error(), "is not a regular file; hint: name a file") {
		t.Errorf("of a folder: %v", err)
	}
}
