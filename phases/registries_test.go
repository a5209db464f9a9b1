package phases

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

const (
	hubHosts    = manifests.RegistriesDir + "/docker.io/hosts.toml"
	mirrorHosts = manifests.RegistriesDir + "/registry.k8s.io/hosts.toml"
	mirrorCA    = manifests.RegistriesDir + "/registry.k8s.io/ca.crt"
	foreignFile = manifests.RegistriesDir + "/ghcr.io/hosts.toml"
)

// described has a cluster's document say something of registries and a proxy. The document comes from a file, as only such
// a one can.
func described(t testing.TB, c *cluster.Cluster, _ *cluster.Node) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string]string{
		"ca.crt":      "-----BEGIN CERTIFICATE-----\nYXV0aG9yaXR5\n-----END CERTIFICATE-----\n",
		"config.json": `{"auths": {"hub.example.org": {"auth": "b3BzOnMzY3JldA=="}}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	document(t, c, dir, `
  registries:
  - {name: docker.io, mirrors: [https://hub.example.org], credentialsFile: config.json}
  - {name: registry.k8s.io, mirrors: [https://mirror.example.org/k8s], caFile: ca.crt, exclusive: true}
  proxy: {httpsProxy: "http://ops:s3cret@proxy.example.org:3128"}
`)
}

// document puts the registries and the proxy of a document in a folder in place of the cluster's.
func document(t testing.TB, c *cluster.Cluster, dir, spec string) {
	t.Helper()
	doc, err := config.Parse(filepath.Join(dir, "cluster.yaml"), []byte("apiVersion: "+config.APIVersion+"\nkind: "+config.Kind+"\nspec:"+spec+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	registries, proxy := doc.Spec.Registries, doc.Spec.Proxy
	doc.Spec = c.Config.Spec
	doc.Spec.Registries, doc.Spec.Proxy = registries, proxy
	c.Config = doc
	if err := config.ValidateJoin(doc); err != nil {
		t.Fatal(err)
	}
}

func TestRegistriesThatADocumentNoLongerNames(t *testing.T) {
	c, machines := testCluster(t, "cp-1")
	m := machines[0]
	before := m.Paths("/")
	described(t, c, c.Nodes[0])
	run(t, Registries(c, c.Nodes))
	document(t, c, t.TempDir(), " {registries: [{name: docker.io, mirrors: [https://hub.example.org]}]}")
	p := Registries(c, c.Nodes)
	want := []string{"update " + hubHosts, "delete " + mirrorCA, "delete " + mirrorHosts}
	if diff := cmp.Diff(want, check(t, p, c.Nodes[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	run(t, p)
	settled(t, p, c.Nodes[0])
	if f, _ := m.Get(hubHosts); strings.Contains(string(f.Data), "Authorization") || f.Mode != 0o644 {
		t.Errorf("without credentials it is %v\n%s", f.Mode, f.Data)
	}
	document(t, c, t.TempDir(), " {}")
	p = Registries(c, c.Nodes)
	run(t, p)
	settled(t, p, c.Nodes[0])
	left := slices.DeleteFunc(m.Paths("/"), func(s string) bool { return slices.Contains(before, s) || s == "/etc/containerd" || s == "/etc" })
	if len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

func TestRegistriesOfOthersStay(t *testing.T) {
	c, machines := testCluster(t, "cp-1")
	m := machines[0]
	m.touch(foreignFile, 0o644, "server = \"https://mine\"\n")
	described(t, c, c.Nodes[0])
	run(t, Registries(c, c.Nodes))
	document(t, c, t.TempDir(), " {}")
	run(t, Registries(c, c.Nodes))
	if _, ok := m.Get(foreignFile); !ok {
		t.Error("a file of the user's is gone")
	}
	if left := m.Paths(manifests.RegistriesDir); len(left) != 2 {
		t.Errorf("%q are left", left)
	}
}

// Containerd hears of registries at once, and runs on.
func TestRegistriesNeedNoRestart(t *testing.T) {
	c, machines := testCluster(t, "cp-1")
	m := machines[0]
	told := func(what string) {
		t.Helper()
		run(t, Registries(c, c.Nodes), Runtime(c, c.Nodes))
		if got := m.units.Starts("containerd"); got != 1 {
			t.Errorf("%s: containerd was started %d times", what, got)
		}
	}
	told("without any")
	described(t, c, c.Nodes[0])
	c.Config.Spec.Proxy = config.Proxy{}
	told("the first ones")
	document(t, c, t.TempDir(), " {registries: [{name: quay.io, mirrors: [https://hub.example.org]}]}")
	told("others")
	document(t, c, t.TempDir(), " {}")
	told("none any more")
}

// Without a document nothing is known of registries and a proxy, and a runtime of the user's is the user's.
func TestRegistriesAndProxyAreLeftAlone(t *testing.T) {
	c, _ := testCluster(t, "cp-1")
	c.Config.Spec.Registries = []config.Registry{{Name: "a", Mirrors: []string{"https://m"}}}
	c.Config.Spec.Proxy.HTTPProxy = "http://p"
	for _, p := range []workflow.Phase{Registries(c, c.Nodes), Proxy(c, c.Nodes)} {
		if len(p.Hosts) > 0 {
			t.Errorf("without a document, %s has hosts", p.Name)
		}
	}
	described(t, c, c.Nodes[0])
	c.Config.Spec.Runtime.Type = config.RuntimeExisting
	if p := Registries(c, c.Nodes); len(p.Hosts) > 0 {
		t.Error("a runtime of the user's is told of registries")
	}
	if diff := cmp.Diff(created(config.ProxyEnv, manifests.KubeletProxyPath), check(t, Proxy(c, c.Nodes), c.Nodes[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Errors name the field, and nothing of what the files hold.
func TestRegistriesWithWrongFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "wrong"), "s3cret")
	for field, want := range map[string]string{
		"caFile: none": "spec.registries[0].caFile: ", "caFile: wrong": "spec.registries[0]: it holds no certificate",
		"credentialsFile: none": "spec.registries[0].credentialsFile: ", "credentialsFile: wrong": "spec.registries[0].credentialsFile: it is not a docker config.json",
	} {
		c, _ := testCluster(t, "cp-1")
		document(t, c, dir, " {registries: [{name: a, "+field+"}]}")
		_, err := Registries(c, c.Nodes).Check(t.Context(), c.Nodes[0])
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestOurRegistriesScript(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a:5000", "b", "c c"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "a:5000/hosts.toml"), manifests.MarkComment+"x\n")
	write(t, filepath.Join(dir, "b/hosts.toml"), "server = \"x\" "+manifests.MarkComment)
	write(t, filepath.Join(dir, "c c/ca.crt"), manifests.MarkComment+"x\n")
	write(t, filepath.Join(dir, "stray"), manifests.MarkComment+"x\n")
	out, err := shell{path: t.TempDir()}.Query(t.Context(), host.Command("sh", "-c", ourRegistriesScript, "sh", dir, manifests.MarkComment))
	if want := filepath.Join(dir, "a:5000/hosts.toml") + "\n" + filepath.Join(dir, "c c/ca.crt") + "\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
	out, err = shell{path: t.TempDir()}.Query(t.Context(), host.Command("sh", "-c", ourRegistriesScript, "sh", dir+"-not", manifests.MarkComment))
	if err != nil || len(out) > 0 {
		t.Errorf("without the folder: %q, %v", out, err)
	}
}
