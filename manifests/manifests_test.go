package manifests_test

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files")

// kubeadmCluster is the cluster that testdata/kubeadm is of, as kubeadm v1.37.2 made it.
func kubeadmCluster(t *testing.T, change ...func(*config.Spec)) manifests.Params {
	t.Helper()
	c := &config.Cluster{Spec: config.Spec{
		KubernetesVersion: "v1.37.2",
		Hosts:             []config.Host{{Name: "h1", Address: "10.89.0.11", Roles: []config.Role{config.RoleControlPlane}}},
	}}
	for _, f := range change {
		f(&c.Spec)
	}
	config.SetDefaults(c)
	images, err := config.ImagesOf(c)
	if err != nil {
		t.Fatal(err)
	}
	p := manifests.Params{Cluster: c, Images: images, Endpoint: c.Endpoint(), NodeEndpoint: c.NodeEndpoint()}
	for _, h := range c.Spec.Hosts {
		address := netip.AddrPortFrom(netip.MustParseAddr(h.Address), uint16(c.Spec.APIServerPort))
		p.APIServers = append(p.APIServers, manifests.Backend{Name: h.Name, Address: address})
	}
	return p
}

func kubeadmNode() manifests.Node {
	return manifests.Node{
		Name:             "h1",
		AdvertiseAddress: netip.MustParseAddr("10.89.0.11"),
		CADirs:           []string{"/etc/ca-certificates", "/usr/local/share/ca-certificates", "/usr/share/ca-certificates"},
	}
}

// must fails the test for the error of a call with two results.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// golden compares a file with testdata/golden, mode and path included if it has them.
func golden(t *testing.T, name string, f host.File) {
	t.Helper()
	got := f.Data
	if f.Path != "" {
		got = append([]byte("# "+f.Path+" "+f.Mode.String()+"\n"), got...)
	}
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; hint: go test ./manifests -update", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs from its golden file (-want +got):\n%s", name, diff)
	}
}

// reference reads the documents of a file of testdata/kubeadm.
func reference(t *testing.T, name string) []map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "kubeadm", name))
	if err != nil {
		t.Fatal(err)
	}
	var docs []map[string]any
	for doc := range bytes.SplitSeq(data, []byte("\n---\n")) {
		docs = append(docs, decode(t, doc))
	}
	return docs
}

func decode(t *testing.T, data []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := yaml.UnmarshalStrict(data, &m); err != nil {
		t.Fatalf("%v in:\n%s", err, data)
	}
	return m
}

// set drops what kubeadm writes out although nobody set it: zero durations, zeros and empty strings, nulls, and what is
// left empty by that. False stays if keepFalse, for the kubelet, where the default is often true.
func set(v any, keepFalse bool) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			if e = set(e, keepFalse); e != nil {
				out[k] = e
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		if len(v) == 0 {
			return nil
		}
	case string:
		if v == "" || v == "0" || v == "0s" {
			return nil
		}
	case float64:
		if v == 0 {
			return nil
		}
	case bool:
		if !v && !keepFalse {
			return nil
		}
	}
	return v
}

func TestMarkedTellsOursFromOthers(t *testing.T) {
	p := kubeadmCluster(t)
	binaries := []string{"/usr/local/bin/kubelet", "/usr/local/bin/kubectl"}
	for _, f := range []host.File{
		manifests.KubeletUnit(p, binaries), manifests.KubeletDropIn(), manifests.ContainerdUnit(nil),
		manifests.ContainerdConfig(p), manifests.ModulesFile(p), manifests.SysctlFile(p),
	} {
		if !manifests.Marked(f.Data) {
			t.Errorf("%s carries no mark", f.Path)
		}
	}
	if got := manifests.MarkedBinaries(manifests.KubeletUnit(p, binaries).Data); !reflect.DeepEqual(got, binaries) {
		t.Errorf("binaries of the unit: got %q, want %q", got, binaries)
	}
	theirs := strings.ReplaceAll(string(manifests.KubeletUnit(p, binaries).Data), "[X-Myadm]", "[X-Theirs]")
	if manifests.Marked([]byte(theirs)) || manifests.MarkedBinaries([]byte(theirs)) != nil {
		t.Error("a unit without the section is taken for ours")
	}
}
