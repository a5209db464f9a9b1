package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd/etcdtest"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/staticpod"
	"github.com/myadm/myadm/workflow"
)

// rig is a cluster at the old version that is to come to the new one: hosts that are the strict fake with programs that
// run in the versions of their files, an API server in memory, and a real etcd, whose version nobody asks.
type rig struct {
	*cluster.Cluster
	api   *kubetest.Server
	hosts map[string]*rigHost
}

// rigHost is a host of a rig.
type rigHost struct {
	*hosttest.Fake
	t    *testing.T
	api  *kubetest.Server
	node string

	mu        sync.Mutex
	images    []string          // that its containerd has
	crashes   map[string]string // programs that end as soon as they are started, by name: the version that does
	restarts  map[string]int
	exchanges [][]string // what the script was given each time
	breaks    int        // how often the script is to fail at its last step
}

const (
	rigKubelet    = "/opt/bin/kubelet" // elsewhere than in the bundle
	rigContainerd = "/usr/local/bin/containerd"
)

// rigBundle has binaries that say their version, and nothing else.
func rigBundle(t *testing.T) *bundle.Bundle {
	t.Helper()
	dir := t.TempDir()
	w, err := bundle.Create(dir, newVersion)
	if err != nil {
		t.Fatal(err)
	}
	var errs []error
	for target, role := range map[string]bundle.Role{
		"/usr/local/bin/kubelet": bundle.RoleNode, "/usr/local/bin/kubectl": bundle.RoleNode, rigContainerd: bundle.RoleRuntime, "/usr/local/bin/runc": bundle.RoleRuntime,
	} {
		a := bundle.Artifact{
			Name: target[strings.LastIndex(target, "/")+1:], Version: newVersion, OS: "linux", Arch: "amd64",
			Roles: []bundle.Role{role}, Target: target, Mode: 0o755,
		}
		errs = append(errs, w.AddBinary(a, strings.NewReader(newVersion)))
	}
	if err := errors.Join(append(errs, w.Close())...); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// newRig makes a cluster of a control plane, cp-1, and workers. Etcd runs only where there are none: workers need none.
func newRig(t *testing.T, workers ...string) *rig {
	t.Helper()
	server, pki := "10.0.0.1", certs.Files{}
	if len(workers) == 0 {
		member := etcdtest.NewTLS(t).Start("cp-1")
		server, pki = member.Address.String(), member.PKI()
	}
	r := &rig{api: kubetest.NewServer(t), hosts: map[string]*rigHost{}}
	cfg := &config.Cluster{}
	cfg.Spec.Hosts = []config.Host{{Name: "cp-1", AdvertiseAddress: server, Roles: []config.Role{config.RoleControlPlane}}}
	for i, name := range workers {
		cfg.Spec.Hosts = append(cfg.Spec.Hosts, config.Host{Name: name, AdvertiseAddress: fmt.Sprintf("10.0.0.%d", i+2), Roles: []config.Role{config.RoleWorker}})
	}
	config.SetDefaults(cfg)
	cfg.Spec.KubernetesVersion = newVersion
	r.Cluster = &cluster.Cluster{Config: cfg, Bundle: rigBundle(t), Now: time.Now}
	t.Cleanup(func() { r.Close() })
	ok := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})) // etcd's own port for its health
	t.Cleanup(ok.Close)
	old, next := imagesAt(t, oldVersion), imagesAt(t, newVersion)
	for _, spec := range cfg.Spec.Hosts {
		h := &rigHost{
			Fake: hosttest.New(t, spec.Name), t: t, api: r.api, node: spec.Name, crashes: map[string]string{}, restarts: map[string]int{},
			images: []string{next.Etcd, next.APIServer, next.ControllerManager, next.Scheduler},
		}
		r.hosts[spec.Name] = h
		for _, path := range []string{rigKubelet, "/usr/local/bin/kubectl", rigContainerd} {
			h.Put(host.File{Path: path, Mode: 0o755, Data: []byte(oldVersion)})
		}
		h.Put(manifests.ContainerdUnit([]string{rigContainerd}))
		if spec.HasRole(config.RoleControlPlane) {
			for path, data := range pki {
				h.Put(host.File{Path: path, Mode: 0o600, Data: data})
			}
			h.Put(host.File{Path: config.SuperAdminConf, Mode: 0o600, Data: r.api.Kubeconfig()})
			for _, name := range staticpod.Names {
				h.Put(host.File{Path: manifests.StaticPodPath(name), Mode: 0o600, Data: manifestOf(name, imageFor(name, old), "--theirs")})
			}
			h.Mkdir(cfg.Spec.Etcd.DataDir+"/member", 0o700)
		}
		h.answer(server, ok.Listener.Addr().String())
		r.Nodes = append(r.Nodes, &cluster.Node{Host: h, Spec: spec, Facts: cluster.Facts{Arch: "amd64", Hostname: spec.Name}})
		r.api.Put(t, &corev1.Node{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: spec.Name},
			Status: corev1.NodeStatus{
				NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: oldVersion},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
		})
	}
	return r
}

// answer registers the host's commands, and where it reaches what: its components all answer as the API server does.
func (h *rigHost) answer(etcd, etcdHealth string) {
	h.On("sh", "-c", machineScript).Return("ExecStart={ path=" + rigKubelet + " ; argv[]=" + rigKubelet + " $X ; }\n")
	h.OnPrefix("sh", "-c", staticpod.ProgramsScript, "sh").Do(h.programs)
	h.OnPrefix("sh", "-c", wordsScript, "sh").Do(func(_ *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		return []byte("panic: " + cmd.Argv[4] + "\n"), nil
	})
	h.OnPrefix("ctr", "--namespace", "k8s.io", "images", "ls").Do(func(*hosttest.Fake, host.Cmd) ([]byte, error) {
		return []byte("REF TYPE DIGEST\n" + strings.Join(h.images, " x sha256:aa\n") + " x sha256:aa\n"), nil
	})
	h.OnPrefix("systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--unit="+staticpod.Unit, "sh", folder+"/exchange.sh").Changes().Do(h.exchange)
	h.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
		ill := func(name string) bool { return h.runs(name) == "" }
		switch address {
		case net.JoinHostPort(etcd, "6443"), h.api.Address():
			if h.node == "cp-1" && ill(manifests.APIServerName) {
				return nil, errors.New("connection refused")
			}
			address = h.api.Address()
		case "127.0.0.1:10257", "127.0.0.1:10259":
			address = h.api.Address()
		case "127.0.0.1:2381":
			if ill(manifests.EtcdName) {
				return nil, errors.New("connection refused")
			}
			address = etcdHealth
		case net.JoinHostPort(etcd, "2379"):
		default:
			return nil, fmt.Errorf("%s: connection refused", address)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	})
}

// version is what a program's file, or its image's tag, says.
func (h *rigHost) version(name string) string {
	if name == kubelet {
		f, _ := h.Get(rigKubelet)
		return string(f.Data)
	}
	f, ok := h.Get(manifests.StaticPodPath(name))
	if !ok {
		return ""
	}
	image, err := manifests.PodImage(f.Data)
	if err != nil {
		h.t.Error(err)
	}
	return staticpod.ImageVersion(image)
}

// runs is the version in which a program runs; empty when it does not.
func (h *rigHost) runs(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v := h.version(name); h.crashes[name] != v {
		return v
	}
	return ""
}

// programs is staticpod.ProgramsScript. What crashes has been started twice more at each look.
func (h *rigHost) programs(*hosttest.Fake, host.Cmd) ([]byte, error) {
	var b strings.Builder
	for _, name := range append(slices.Clone(staticpod.Names), kubelet) {
		switch v := h.runs(name); {
		case v != "":
			v, _, _ = strings.Cut(v, "-")
			fmt.Fprintf(&b, "%s Version %s\n", name, v)
		case h.version(name) != "":
			h.mu.Lock()
			h.restarts[name] += 2
			h.mu.Unlock()
		}
		h.mu.Lock()
		fmt.Fprintf(&b, "restarts:%s x%s %d\n", name, h.version(name), h.restarts[name])
		h.mu.Unlock()
	}
	return []byte(b.String()), nil
}

// exchange does what a staticpod.Exchange does to files, and has the kubelet that then runs tell the API of itself.
func (h *rigHost) exchange(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
	args := cmd.Argv[8:]
	h.mu.Lock()
	h.exchanges = append(h.exchanges, args)
	h.mu.Unlock()
	if data, copied := args[1], args[2]; copied != "" {
		if _, err := f.Stat(context.Background(), data); err != nil {
			return nil, err
		}
		f.Mkdir(copied, 0o700)
	}
	if back := args[3]; back != "" {
		f.Delete(back)
	}
	for moves := args[5:]; len(moves) > 0; moves = moves[3:] {
		from, ok := f.Get(moves[0])
		if !ok {
			return nil, &host.ExitError{Argv: cmd.Argv, Code: 1, Stderr: []byte("mv: cannot stat " + moves[0])}
		}
		if there, ok := f.Get(moves[1]); ok {
			f.Put(host.File{Path: moves[2], Mode: there.Mode, Data: there.Data})
		}
		f.Put(host.File{Path: moves[1], Mode: from.Mode, Data: from.Data})
		f.Delete(moves[0])
	}
	if v := h.runs(kubelet); v != "" {
		put(h.t, h.api, kube.Ref{APIVersion: "v1", Kind: "Node", Name: h.node}, v, "status", "nodeInfo", "kubeletVersion")
	}
	if h.breaks > 0 {
		h.breaks--
		return nil, &host.ExitError{Argv: cmd.Argv, Code: 1, Stderr: []byte("Job for containerd.service failed")}
	}
	return nil, nil
}

// files are the files of the host that an upgrade may touch, with their content or their image.
func (h *rigHost) files() map[string]string {
	all := map[string]string{}
	for _, path := range h.Paths("/") {
		info, err := h.Stat(context.Background(), path)
		if err != nil || info[0].Mode.IsDir() && !strings.Contains(path, "myadm") || info[0].Mode&fs.ModeSymlink != 0 {
			continue
		}
		f, _ := h.Get(path)
		switch {
		case strings.HasSuffix(path, ".yaml"):
			image, _ := manifests.PodImage(f.Data)
			all[path] = staticpod.ImageVersion(image)
		case strings.HasPrefix(path, config.PKIDir), strings.HasSuffix(path, ".conf"), strings.HasSuffix(path, ".sh"), path == manifests.ContainerdUnitPath:
		default:
			all[path] = string(f.Data)
		}
	}
	return all
}

// node is the API's word on a node: its kubelet's version, and whether it is cordoned, and by whom.
func (r *rig) node(t *testing.T, name string) string {
	t.Helper()
	u := r.api.Object(nodeRef(name))
	version := text(t, r.api, nodeRef(name), "status", "nodeInfo", "kubeletVersion")
	if spec, ok := u.Object["spec"].(map[string]any); ok && spec["unschedulable"] == true {
		version += " cordoned"
	}
	return version + strings.Join(slices.Sorted(maps.Keys(u.GetAnnotations())), " ")
}

// check is what a phase would change on a host, as "ACTION OBJECT: DETAIL".
func (r *rig) check(t *testing.T, p workflow.Phase, name string) []string {
	t.Helper()
	h := r.hosts[name]
	h.ResetRecord()
	changes, err := p.Check(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Writes())+len(h.Runs())+len(h.Removed()) > 0 {
		t.Error("Check changed the host")
	}
	var texts []string
	for _, c := range changes {
		texts = append(texts, strings.TrimSuffix(string(c.Action)+" "+c.Object+": "+c.Detail, ": "))
	}
	return texts
}

// ends fails the test unless nothing is left to do on a host, and doing it again does nothing.
func (r *rig) ends(t *testing.T, p workflow.Phase, name string) {
	t.Helper()
	if left := r.check(t, p, name); len(left) > 0 {
		t.Errorf("%s: left to do: %q", name, left)
	}
	h := r.hosts[name]
	if err := p.Apply(t.Context(), h, nil); err != nil {
		t.Error(err)
	}
	if w, x, d := h.Writes(), h.Runs(), h.Removed(); len(w)+len(x)+len(d) > 0 {
		t.Errorf("%s: again it writes %q, runs %q, removes %q", name, w, x, d)
	}
}

// rigOptions are patient enough for a busy machine.
func rigOptions() Options {
	return Options{From: oldVersion, Patience: time.Minute, MaxUnavailable: DefaultMaxUnavailable, Drain: DefaultDrainOptions()}
}

// fails runs a phase that is to end with an error which has all parts.
func fails(t *testing.T, p workflow.Phase, parts ...string) {
	t.Helper()
	_, err := new(workflow.Runner).Run(t.Context(), p)
	if err == nil {
		t.Fatal("it is no error")
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v\ndoes not hold %q", err, part)
		}
	}
}
