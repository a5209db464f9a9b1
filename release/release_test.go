package release

import (
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/config"
)

// newest is the newest known release of each minor, oldest first.
func newest(t *testing.T) []string {
	t.Helper()
	var versions []string
	for _, minor := range config.Supported() {
		v, err := config.VersionsOf(minor + ".0")
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, v.Newest)
	}
	return versions
}

func TestCompanionsHaveNoHoles(t *testing.T) {
	var minors []string
	for _, c := range companionsTable {
		minors = append(minors, c.minor)
		for name, version := range map[string]string{"containerd": c.containerd, "runc": c.runc, "cni": c.cni, "flannel's plugin": c.flannelCNI} {
			if _, err := config.ParseVersion(version); err != nil {
				t.Errorf("%s: %s has version %q", c.minor, name, version)
			}
		}
	}
	if want := config.Supported(); !slices.Equal(minors, want) {
		t.Errorf("there are companions for %v, config knows %v", minors, want)
	}
}

// TestItemsHaveNoHoles looks at every minor and architecture: nothing is missing, malformed or there twice.
func TestItemsHaveNoHoles(t *testing.T) {
	for _, version := range newest(t) {
		for _, arch := range Architectures() {
			items, err := Items(version, arch)
			if err != nil {
				t.Fatal(err)
			}
			if len(items) != len(binaryTable)+len(imageTable) {
				t.Errorf("%s %s: %d items", version, arch, len(items))
			}
			seen := map[string]bool{}
			once := func(what string) {
				if seen[what] {
					t.Errorf("%s %s: %s twice", version, arch, what)
				}
				seen[what] = true
			}
			covered := map[bundle.Role]bool{}
			for _, item := range items {
				once("name " + item.Name)
				if item.Arch != arch || item.Version == "" || len(item.Roles) == 0 {
					t.Errorf("%s: %+v", version, item)
				}
				for _, role := range item.Roles {
					covered[role] = true
				}
				switch item.Kind {
				case bundle.KindBinary:
					once("target " + item.Target)
					once("file " + item.File.URL + " " + item.Member)
					checkBinary(t, item)
				case bundle.KindImage:
					once("image " + item.Image)
					if item.Target != "" || item.File != (File{}) || !strings.HasSuffix(item.Image, ":"+item.Version) {
						t.Errorf("%s: %+v", version, item)
					}
				default:
					t.Errorf("%s: kind %q", item, item.Kind)
				}
			}
			for _, role := range Roles() {
				if !covered[role] {
					t.Errorf("%s %s: nothing for role %s", version, arch, role)
				}
				delete(covered, role)
			}
			if len(covered) > 0 {
				t.Errorf("Roles() does not have %v", covered)
			}
		}
	}
}

func checkBinary(t *testing.T, item Item) {
	t.Helper()
	if !path.IsAbs(item.Target) || item.Mode != 0o755 {
		t.Errorf("%s: target %s, mode %o", item, item.Target, item.Mode)
	}
	for _, text := range []string{item.File.URL, item.File.Checksum.URL} {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.String() != text || path.Clean(u.Path) != u.Path || u.RawQuery != "" {
			t.Errorf("%s: URL %q, %v", item, text, err)
		}
	}
	if !strings.Contains(item.File.URL, item.Arch) || !strings.Contains(item.File.URL, "/"+item.Version+"/") {
		t.Errorf("%s comes from %s", item, item.File.URL)
	}
	archive := strings.HasSuffix(item.File.URL, ".tgz") || strings.HasSuffix(item.File.URL, ".tar.gz")
	if archive != (item.Member != "") || strings.HasPrefix(item.Member, ".") || strings.Contains(item.Member, "ARCH") {
		t.Errorf("%s: member %q of %s", item, item.Member, item.File.URL)
	}
	named := item.File.Checksum.Name
	if (item.File.Checksum.Form == FormList) != (named != "") || named != "" && named != path.Base(item.File.URL) {
		t.Errorf("%s: checksum %+v", item, item.File.Checksum)
	}
}

// TestImagesAreThoseOfClusters: the images are all that config names for a cluster with everything, and no others.
func TestImagesAreThoseOfClusters(t *testing.T) {
	c := &config.Cluster{Spec: config.Spec{KubernetesVersion: "v1.36.3", LoadBalancer: config.LoadBalancer{VirtualIP: "192.0.2.10"}}}
	config.SetDefaults(c)
	images, err := config.ImagesOf(c)
	if err != nil {
		t.Fatal(err)
	}
	items, err := Items("v1.36.3", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, item := range items {
		if item.Kind == bundle.KindImage {
			got = append(got, item.Image)
		}
	}
	want := images.All()
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestLayouts spells out the addresses, as they are to be typed into a browser.
func TestLayouts(t *testing.T) {
	want := map[string][4]string{ // file, checksum, name in it, member
		"kubelet": {
			"https://dl.k8s.io/release/v1.37.5/bin/linux/arm64/kubelet",
			"https://dl.k8s.io/release/v1.37.5/bin/linux/arm64/kubelet.sha256", "", "",
		},
		"ctr": {
			"https://github.com/containerd/containerd/releases/download/v2.4.2/containerd-static-2.4.2-linux-arm64.tar.gz",
			"https://github.com/containerd/containerd/releases/download/v2.4.2/containerd-static-2.4.2-linux-arm64.tar.gz.sha256sum",
			"containerd-static-2.4.2-linux-arm64.tar.gz", "bin/ctr",
		},
		"runc": {
			"https://github.com/opencontainers/runc/releases/download/v1.5.2/runc.arm64",
			"https://github.com/opencontainers/runc/releases/download/v1.5.2/runc.sha256sum", "runc.arm64", "",
		},
		"cni-bridge": {
			"https://github.com/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-arm64-v1.9.1.tgz",
			"https://github.com/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-arm64-v1.9.1.tgz.sha256",
			"cni-plugins-linux-arm64-v1.9.1.tgz", "bridge",
		},
		"cni-flannel": {
			"https://github.com/flannel-io/cni-plugin/releases/download/v1.9.1-flannel3/cni-plugin-flannel-linux-arm64-v1.9.1.tgz",
			"https://github.com/flannel-io/cni-plugin/releases/download/v1.9.1-flannel3/cni-plugin-flannel-linux-arm64-v1.9.1.tgz.sha256",
			"cni-plugin-flannel-linux-arm64-v1.9.1.tgz", "flannel-arm64",
		},
	}
	items, err := Items("v1.37.5", "arm64") // a patch release that nobody has heard of yet
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][4]string{}
	for _, item := range items {
		if _, asked := want[item.Name]; asked {
			got[item.Name] = [4]string{item.File.URL, item.File.Checksum.URL, item.File.Checksum.Name, item.Member}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestItemsRefuse(t *testing.T) {
	for _, tt := range []struct{ version, arch, want string }{
		{"v1.38.0", "amd64", "Kubernetes v1.38.0 is not supported; hint: use v1.36 or v1.37, such as v1.37.2"},
		{"1.37.2", "amd64", `"1.37.2" is not a Kubernetes version; hint: write it as v1.37.2`},
		{"v1.37.2", "riscv64", `there are no releases for architecture "riscv64"; hint: use amd64 or arm64`},
	} {
		if _, err := Items(tt.version, tt.arch); err == nil || err.Error() != tt.want {
			t.Errorf("Items(%s, %s): %v, want %s", tt.version, tt.arch, err, tt.want)
		}
	}
}

func TestSelect(t *testing.T) {
	items, err := Items("v1.37.2", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	names := func(items []Item) (names []string) {
		for _, item := range items {
			names = append(names, item.Name)
		}
		return names
	}
	if got, want := names(Select(items, bundle.RoleNode)), []string{"kubelet", "kube-proxy", "coredns", "pause"}; !slices.Equal(got, want) {
		t.Errorf("a node gets %v, want %v", got, want)
	}
	if got := Select(items); len(got) != len(items) {
		t.Errorf("no role selects %d of %d", len(got), len(items))
	}
	if got := Select(items, bundle.RoleTest); len(got) != 0 {
		t.Errorf("tests get %v", names(got))
	}
}

// TestArtifact: what the table says of an item is in a bundle, too.
func TestArtifact(t *testing.T) {
	items, err := Items("v1.37.2", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		a := item.Artifact()
		if a.Name != item.Name || a.OS != "linux" || a.Arch != "amd64" || a.Kind != item.Kind || a.Target != item.Target || a.Image != item.Image {
			t.Errorf("%s becomes %+v", item, a)
		}
	}
	if got, want := items[0].String(), "kubelet v1.37.2 (amd64)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
