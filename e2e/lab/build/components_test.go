package build

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/myadm/myadm/bundle"
)

const componentsDir = "../../components"

// The table names versions for their users, the modules for the compiler: they must agree.
func TestModulesHaveTheVersionsOfTheTable(t *testing.T) {
	for _, r := range releases {
		for dir, requirement := range map[string]string{
			"kubernetes-" + minor(r.version):                r.version,
			"etcd-" + minor(r.etcd):                         "go.etcd.io/etcd/server/v3 " + r.etcd,
			"coredns-" + strings.TrimPrefix(r.coredns, "v"): "github.com/coredns/coredns " + r.coredns,
			"containerd": "github.com/containerd/containerd/v2 " + containerdVersion,
			"cni":        "github.com/containernetworking/plugins " + cniVersion,
			"flannel":    "github.com/flannel-io/flannel " + flannelVersion,
		} {
			if text := goMod(t, dir); !regexp.MustCompile(regexp.QuoteMeta(requirement) + `\b`).MatchString(text) {
				t.Errorf("%s/go.mod does not require %s", dir, requirement)
			}
		}
		// Every staging module moves with Kubernetes.
		staging := "v0." + strings.TrimPrefix(r.version, "v1.")
		replaces := regexp.MustCompile(`(?m)^\tk8s\.io/\S+ => k8s\.io/\S+ (\S+)$`).FindAllStringSubmatch(goMod(t, "kubernetes-"+minor(r.version)), -1)
		if len(replaces) < 30 {
			t.Errorf("kubernetes-%s replaces %d staging modules", minor(r.version), len(replaces))
		}
		for _, replace := range replaces {
			if replace[1] != staging {
				t.Errorf("%s, want %s", strings.TrimSpace(replace[0]), staging)
			}
		}
	}
}

func goMod(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(componentsDir, dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// What the tables take from a step, that step makes.
func TestTablesResolve(t *testing.T) {
	for _, r := range releases {
		made := map[string][]string{}
		for _, m := range modules(r) {
			for _, p := range m.programs {
				pkg, name, renamed := strings.Cut(p, "=")
				if !renamed {
					name = path.Base(pkg)
				}
				made[m.dir] = append(made[m.dir], name)
			}
		}
		for _, set := range debianSets {
			made[set.name] = set.programs
		}
		var froms []string
		for _, f := range hostFiles(r) {
			froms = append(froms, f.from)
		}
		for _, im := range images(r) {
			for _, p := range im.programs {
				froms = append(froms, p.from)
			}
			if im.debian != "" && made[im.debian] == nil {
				t.Errorf("image %s is on the unknown Debian set %s", im.name, im.debian)
			}
			if im.debian == "" && im.version == "" {
				t.Errorf("image %s has no version", im.name)
			}
		}
		for _, from := range froms {
			step := stepName(from)
			if !slices.Contains(made[step], strings.TrimPrefix(from, step+"/")) {
				t.Errorf("%s: nothing makes %s", r.version, from)
			}
		}
	}
}

// The names are kubeadm's: what its manifests and its preflight ask for; and the load balancers' are myadm's.
func TestImageNames(t *testing.T) {
	const balancers = "docker.io/library/haproxy:2.6 docker.io/osixia/keepalived:2.0.20"
	want := map[string]string{
		"v1.37.2": "registry.k8s.io/kube-apiserver:v1.37.2 registry.k8s.io/kube-controller-manager:v1.37.2 registry.k8s.io/kube-scheduler:v1.37.2 " +
			"registry.k8s.io/etcd:3.7.0-0 registry.k8s.io/kube-proxy:v1.37.2 registry.k8s.io/coredns/coredns:v1.14.6 registry.k8s.io/pause:3.10.2 " + balancers,
		"v1.36.3": "registry.k8s.io/kube-apiserver:v1.36.3 registry.k8s.io/kube-controller-manager:v1.36.3 registry.k8s.io/kube-scheduler:v1.36.3 " +
			"registry.k8s.io/etcd:3.6.8-0 registry.k8s.io/kube-proxy:v1.36.3 registry.k8s.io/coredns/coredns:v1.14.2 registry.k8s.io/pause:3.10.2 " + balancers,
	}
	for _, r := range releases {
		var refs []string
		for _, im := range images(r) {
			if strings.HasPrefix(im.ref, "registry.k8s.io/") || slices.Contains(im.roles, bundle.RoleLoadBalancer) {
				refs = append(refs, im.ref)
			}
		}
		if got := strings.Join(refs, " "); got != want[r.version] {
			t.Errorf("%s has\n%s, want\n%s", r.version, got, want[r.version])
		}
	}
}

// A worker gets nothing of the control plane, and no host gets the test image.
func TestShares(t *testing.T) {
	roles := map[string][]bundle.Role{}
	for _, f := range hostFiles(releases[0]) {
		roles[f.name] = f.roles
	}
	for _, im := range images(releases[0]) {
		roles[im.name] = im.roles
	}
	worker := []bundle.Role{bundle.RoleNode, bundle.RoleWorker, bundle.RoleRuntime, bundle.RoleCNI, bundle.RoleFlannel}
	var names []string
	for name, has := range roles {
		if slices.ContainsFunc(has, func(r bundle.Role) bool { return slices.Contains(worker, r) }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	want := "cni-bridge cni-flannel cni-host-local cni-loopback cni-portmap containerd containerd-shim-runc-v2 coredns ctr flannel kube-proxy kubelet pause runc"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("a worker gets\n%s, want\n%s", got, want)
	}
}

func TestUnknownVersion(t *testing.T) {
	_, err := Bundle(t.Context(), Options{KubernetesVersion: "v1.2.3", CacheDir: t.TempDir(), ComponentsDir: componentsDir})
	if err == nil || !strings.Contains(err.Error(), "v1.37.2, v1.36.3") {
		t.Errorf("error %v, want one with the versions that there are", err)
	}
	_, err = Bundle(t.Context(), Options{Arch: "mips", CacheDir: t.TempDir(), ComponentsDir: componentsDir})
	if err == nil || !strings.Contains(err.Error(), "mips") {
		t.Errorf("error %v, want one about the architecture", err)
	}
}
