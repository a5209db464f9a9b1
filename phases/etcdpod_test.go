package phases

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
)

// rendered is cp-1's static pod of etcd, with members that it is told of, or none.
func rendered(t testing.TB, members ...manifests.Member) []byte {
	t.Helper()
	c, _ := testCluster(t, "cp-1")
	n := nodeOf(c.Nodes[0])
	n.InitialCluster = members
	f, err := manifests.Etcd(params(c), n)
	if err != nil {
		t.Fatal(err)
	}
	return f.Data
}

func TestReadEtcdPod(t *testing.T) {
	ours := string(rendered(t))
	images, err := config.ImagesOf(func() *config.Cluster { c, _ := testCluster(t, "cp-1"); return c.Config }())
	if err != nil {
		t.Fatal(err)
	}
	good := etcdPodSpec{image: images.Etcd, name: "cp-1", peerURLs: "https://10.0.0.1:2380", dataDir: config.EtcdDataDir}
	for _, tt := range []struct {
		name     string
		manifest string
		want     etcdPodSpec
		err      string
	}{
		{"ours", ours, good, ""},
		{"another folder", strings.ReplaceAll(ours, "--data-dir=/var/lib/etcd", "--data-dir=/data/etcd/"),
			etcdPodSpec{image: good.image, name: good.name, peerURLs: good.peerURLs, dataDir: "/data/etcd"}, ""},
		{"the folder of folders", strings.ReplaceAll(ours, "--data-dir=/var/lib/etcd", "--data-dir=/"), etcdPodSpec{}, "names no image"},
		{"no name", strings.ReplaceAll(ours, "--name=", "--nickname="), etcdPodSpec{}, "names no image"},
		{"a log elsewhere", strings.ReplaceAll(ours, "- --name=", "- --wal-dir=/wal\n    - --name="), etcdPodSpec{}, "(--wal-dir); hint:"},
		{"no pod", "kind: ConfigMap\n", etcdPodSpec{}, "is no pod"},
		{"no YAML", "\t", etcdPodSpec{}, "is no pod"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readEtcdPod([]byte(tt.manifest))
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("got %v, want %q", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(etcdPodSpec{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// After a restore the static pod is the one that init would write, so that init finds nothing to do.
func TestSetInitialClusterIsWhatIsRendered(t *testing.T) {
	one := manifests.Member{Name: "cp-1", PeerURL: "https://10.0.0.1:2380"}
	two := manifests.Member{Name: "cp-2", PeerURL: "https://10.0.0.2:2380"}
	want := string(rendered(t, one))
	for name, members := range map[string][]manifests.Member{"of the first": nil, "of one that joined": {one, two}, "after a restore": {one}} {
		got := setInitialCluster(rendered(t, members...), "cp-1=https://10.0.0.1:2380")
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("the pod %s (-want +got):\n%s", name, diff)
		}
	}
}

func FuzzEtcdPod(f *testing.F) {
	f.Add(rendered(f))
	f.Add(rendered(f, manifests.Member{Name: "a", PeerURL: "https://b"}))
	f.Add([]byte("- --initial-cluster="))
	f.Add([]byte("spec:\n  containers:\n  - command: [etcd, --name, x]\n"))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		spec, err := readEtcdPod(manifest)
		if err == nil && (spec.dataDir == "/" || !strings.HasPrefix(spec.dataDir, "/")) {
			t.Errorf("data in %q", spec.dataDir)
		}
		once := setInitialCluster(manifest, "m=https://10.0.0.1:2380")
		if twice := setInitialCluster(once, "m=https://10.0.0.1:2380"); !bytes.Equal(once, twice) {
			t.Errorf("twice is not once:\n%s\n%s", once, twice)
		}
	})
}
