package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const etcdFiles = "caFile: ca.crt, certFile: /etcd.crt, keyFile: etcd.key"

// Each case is the spec of a document, from line 4 on, and every message that it gives.
func TestValidateExternalEtcd(t *testing.T) {
	tests := []struct{ name, spec, want string }{
		{"whole", `etcd: {external: {endpoints: ["https://etcd-1:2379", "https://10.0.0.1:2379", "https://[fd00::1]:4001"], ` + etcdFiles + `}}`, ""},
		{"the data folder of the default document", `etcd: {dataDir: /var/lib/etcd, external: {endpoints: ["https://etcd-1:2379"], ` + etcdFiles + `}}`, ""},
		{"nothing", `etcd: {external: {}}`, `
4:9: spec.etcd.external.endpoints: is missing; hint: write https://host:port of each member
4:9: spec.etcd.external.caFile: is missing; hint: name a file: the API servers show etcd a certificate, and verify its own
4:9: spec.etcd.external.certFile: is missing; hint: name a file: the API servers show etcd a certificate, and verify its own
4:9: spec.etcd.external.keyFile: is missing; hint: name a file: the API servers show etcd a certificate, and verify its own`},
		{"a file from the net", `etcd: {external: {endpoints: ["https://a:1"], caFile: "https://a/ca.crt", certFile: a, keyFile: b}}`, `4:48: spec.etcd.external.caFile: "https://a/ca.crt" is a URL and not a file; hint: download it and name the file`},
		{"beside the stacked one", "etcd:\n  dataDir: /data\n  extraArgs: [{name: v, value: ''}]\n  extraEnvs: [{name: A}]\n  external: {endpoints: ['https://a:1'], " + etcdFiles + "}", `
5:4: spec.etcd.dataDir: is for the stacked etcd only; hint: remove it, or external
6:4: spec.etcd.extraArgs: is for the stacked etcd only; hint: remove it, or external
7:4: spec.etcd.extraEnvs: is for the stacked etcd only; hint: remove it, or external`},
	}
	for _, url := range []string{
		"", "etcd-1:2379", "http://etcd-1:2379", "https://etcd-1", "https://etcd-1:0", "https://etcd-1:65536", "https://etcd-1:2379/",
		"https://etcd-1:2379?x", "https://u@etcd-1:2379", "https://a:1,https://b:1", "https://-a:1", "https://10.0.0.256:1", "https://fd00::1:2379",
	} {
		tests = append(tests, struct{ name, spec, want string }{"endpoint " + url, "etcd: {external: {" + etcdFiles + `, endpoints: ["https://a:1", "https://a:1", "` + url + `"]}}`, `
4:103: spec.etcd.external.endpoints[1]: https://a:1 is here twice; hint: keep one of them
4:118: spec.etcd.external.endpoints[2]: "` + url + `" is not the URL of an etcd member; hint: write https://host:port, such as https://etcd-1.example.org:2379`})
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

func TestExternalEtcdsFilesAreTheOperators(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Parse(filepath.Join(dir, "c.yaml"), []byte(head+`spec: {etcd: {external: {caFile: ca.crt, certFile: etcd.crt, keyFile: sub/etcd.key}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &ExternalEtcd{CAFile: dir + "/ca.crt", CertFile: dir + "/etcd.crt", KeyFile: dir + "/sub/etcd.key"}
	if diff := cmp.Diff(want, c.Spec.Etcd.External); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	got := strings.ReplaceAll(ValidateFiles(c).Error(), dir+"/", "")
	const messages = `c.yaml:3:42: spec.etcd.external.certFile: stat etcd.crt: no such file or directory; hint: relative paths start at the document's folder
c.yaml:3:62: spec.etcd.external.keyFile: stat sub/etcd.key: no such file or directory; hint: relative paths start at the document's folder`
	if diff := cmp.Diff(messages, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}
