package phases

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/workflow"
)

const testVersion = "v1.37.2"

// testNow is the operator's clock.
var testNow = time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)

// testCluster is a cluster of fresh machines, and a bundle for it. Its control planes are the first one and those whose
// names begin with cp-.
func testCluster(t testing.TB, names ...string) (*cluster.Cluster, []*machine) {
	t.Helper()
	cfg := &config.Cluster{}
	cfg.Spec.KubernetesVersion = testVersion
	c := &cluster.Cluster{Config: cfg, Now: func() time.Time { return testNow }, Version: "test"}
	var machines []*machine
	for i, name := range names {
		m := newMachine(t, name)
		machines = append(machines, m)
		spec := config.Host{Name: name, Address: fmt.Sprintf("10.0.0.%d", i+1), AdvertiseAddress: fmt.Sprintf("10.0.0.%d", i+1)}
		if i == 0 || strings.HasPrefix(name, "cp-") {
			spec.Roles = []config.Role{config.RoleControlPlane}
		}
		cfg.Spec.Hosts = append(cfg.Spec.Hosts, spec)
		c.Nodes = append(c.Nodes, &cluster.Node{Host: m, Spec: spec, Facts: cluster.Facts{
			Hostname: name, MachineID: "id-of-" + name, Arch: "amd64", Kernel: "6.1.0", OSID: "debian", Systemd: true, CgroupV2: true,
			CPUs: 4, MemoryKiB: 8 << 20, Addresses: []netip.Addr{netip.MustParseAddr(spec.AdvertiseAddress)}, ResolvConf: "/etc/resolv.conf",
		}})
	}
	config.SetDefaults(cfg)
	for i, n := range c.Nodes {
		n.Spec = cfg.Spec.Hosts[i]
	}
	var err error
	if c.Bundle, err = sharedBundle(); err != nil {
		t.Fatal(err)
	}
	answerKernel(c, machines)
	return c, machines
}

func answerKernel(c *cluster.Cluster, machines []*machine) {
	for _, m := range machines {
		m.kernel.answer(m.Fake, params(c))
	}
}

// sharedBundle is the bundle of most tests, made once. It is only read.
var sharedBundle = sync.OnceValues(func() (*bundle.Bundle, error) { return makeBundle(filepath.Join(testDir, "bundle"), "kubelet 1") })

// testDir is a folder for all tests.
var testDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "phases")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	testDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// makeBundle makes a bundle of tiny artifacts; kubelet is the content of that binary. An image is real and empty, with its
// name in its configuration, so that each has a digest of its own.
func makeBundle(dir, kubelet string) (*bundle.Bundle, error) {
	w, err := bundle.Create(dir, testVersion)
	if err != nil {
		return nil, err
	}
	var errs []error
	artifact := func(role bundle.Role, name string) bundle.Artifact {
		return bundle.Artifact{Name: name, Version: testVersion, OS: "linux", Arch: "amd64", Roles: []bundle.Role{role}}
	}
	binary := func(role bundle.Role, target, content string) {
		a := artifact(role, target[strings.LastIndex(target, "/")+1:])
		a.Target, a.Mode = target, 0o755
		errs = append(errs, w.AddBinary(a, strings.NewReader(content)))
	}
	image := func(role bundle.Role, ref string) {
		name, _, _ := strings.Cut(ref[strings.LastIndex(ref, "/")+1:], ":")
		if role != bundle.RoleLoadBalancer { // whose names say which of them a host needs
			name = "image-" + name
		}
		a := artifact(role, name)
		a.Image = ref
		config := &v1.ConfigFile{OS: a.OS, Architecture: a.Arch, Author: ref, RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}}}
		made, err := mutate.ConfigFile(empty.Image, config)
		errs = append(errs, err, w.AddImage(a, made))
	}
	binary(bundle.RoleNode, "/usr/local/bin/kubelet", kubelet)
	binary(bundle.RoleNode, "/usr/local/bin/kubectl", "kubectl")
	binary(bundle.RoleRuntime, "/usr/local/bin/containerd", "containerd")
	binary(bundle.RoleRuntime, "/usr/local/bin/runc", "runc")
	binary(bundle.RoleCNI, "/opt/cni/bin/bridge", "bridge")
	binary(bundle.RoleFlannel, "/opt/cni/bin/flannel", "flannel")
	binary(bundle.RoleTest, "/usr/local/bin/never-sent", "test")
	cfg := &config.Cluster{Spec: config.Spec{KubernetesVersion: testVersion}}
	cfg.Spec.LoadBalancer.Type = config.LoadBalancerKeepalived // which needs the most
	config.SetDefaults(cfg)
	images, err := config.ImagesOf(cfg)
	errs = append(errs, err)
	for _, ref := range []string{images.Etcd, images.APIServer, images.ControllerManager, images.Scheduler} {
		image(bundle.RoleControlPlane, ref)
	}
	for _, ref := range []string{images.Pause, images.Proxy, images.CoreDNS} {
		image(bundle.RoleNode, ref)
	}
	image(bundle.RoleFlannel, images.Flannel)
	image(bundle.RoleLoadBalancer, images.HAProxy)
	image(bundle.RoleLoadBalancer, images.Keepalived)
	if err := errors.Join(append(errs, w.Close())...); err != nil {
		return nil, err
	}
	return bundle.Open(dir)
}

// run runs steps and fails the test if they do.
func run(t testing.TB, steps ...workflow.Step) workflow.Summary {
	t.Helper()
	summary, err := new(workflow.Runner).Run(context.Background(), steps...)
	if err != nil {
		t.Fatal(err)
	}
	return summary
}

// check is what a phase would change on a node, as "ACTION OBJECT".
func check(t testing.TB, p workflow.Phase, n *cluster.Node) []string {
	t.Helper()
	changes, err := p.Check(context.Background(), n)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, c := range changes {
		texts = append(texts, string(c.Action)+" "+c.Object)
	}
	return texts
}

// settled fails the test if running a phase again does anything.
func settled(t testing.TB, p workflow.Phase, n *cluster.Node) {
	t.Helper()
	m := n.Host.(*machine)
	m.ResetRecord()
	if summary := run(t, p); summary.Changes != 0 {
		t.Errorf("running it again makes %d changes", summary.Changes)
	}
	if w, r, x := m.Writes(), m.Removed(), m.Runs(); len(w)+len(r)+len(x) > 0 {
		t.Errorf("running it again writes %q, removes %q, runs %q", w, r, x)
	}
}

// serial lets one event after the other through, as they come from several goroutines.
func serial(report workflow.Reporter) workflow.Reporter {
	var mu sync.Mutex
	return func(e workflow.Event) {
		mu.Lock()
		defer mu.Unlock()
		report(e)
	}
}
