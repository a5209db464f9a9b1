package upgrade

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/staticpod"
)

// fleetHost is a host of a fleet. Its clock goes on by a second with everything that is done to it.
type fleetHost struct {
	*hosttest.Fake
	units     *hosttest.Units
	f         *fleet
	node      config.Host
	apiServer string // where its API server really listens

	mu       sync.Mutex
	now      int64              // Unix seconds
	written  map[string]int64   // files, when
	started  int64              // its kubelet
	runs     map[string]program // static pods that run, by name
	restarts map[string]int
	ill      func(name string, p program) bool // programs that end as soon as they are started; nil: none
}

// program is what a static pod was started with: its manifest, and the files that its flags name.
type program struct {
	manifest string
	image    string // empty: it is no pod
	files    map[string]string
}

func newFleetHost(f *fleet, spec config.Host, etcdHealth string) *fleetHost {
	fake := hosttest.New(f.t, spec.Name)
	h := &fleetHost{
		Fake: fake, units: hosttest.Systemd(fake), f: f, node: spec, now: 1_800_000_000,
		written: map[string]int64{}, runs: map[string]program{}, restarts: map[string]int{},
	}
	images := imagesAt(f.t, newVersion)
	var list strings.Builder
	for _, image := range []string{images.Etcd, images.APIServer, images.ControllerManager, images.Scheduler} {
		fmt.Fprintf(&list, "%s x sha256:aa\n", image)
	}
	fake.On("ctr", "--namespace", "k8s.io", "images", "ls").Return(list.String())
	fake.On("sh", "-c", machineScript).Return("ExecStart={ path=/usr/local/bin/kubelet ; }\n")
	fake.OnPrefix("sh", "-c", phases.UnitScript, "sh").Do(h.showUnit)
	fake.OnPrefix("sh", "-c", staticpod.ProgramsScript, "sh").Do(h.programs)
	fake.OnPrefix("sh", "-c", wordsScript, "sh").Do(func(_ *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		return []byte("panic: " + cmd.Argv[4] + "\n"), nil
	})
	fake.OnPrefix("install", "-d", "-m").Changes().Do(func(fake *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		mode, err := strconv.ParseUint(cmd.Argv[3], 8, 32)
		fake.Mkdir(cmd.Argv[4], fs.FileMode(mode))
		return nil, err
	})
	fake.OnPrefix("systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--unit="+staticpod.Unit, "sh", folder+"/exchange.sh").Changes().Do(h.exchange)
	fake.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
		return f.dial(ctx, h, network, address, etcdHealth)
	})
	if spec.HasRole(config.RoleControlPlane) {
		h.apiServer = f.api.Listen(f.t, func() (*tls.Certificate, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.runs[manifests.APIServerName].serving()
		})
	}
	return h
}

// WriteFiles writes the files one by one, so that a run can end between them.
func (h *fleetHost) WriteFiles(ctx context.Context, files ...host.File) error {
	for _, file := range files {
		do, err := h.f.act(h, "write "+file.Path)
		if do {
			if err := h.Fake.WriteFiles(context.WithoutCancel(ctx), file); err != nil {
				return err
			}
			h.note(file.Path)
			h.kubelet()
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", file.Path, err)
		}
	}
	return nil
}

// Remove removes the paths one by one.
func (h *fleetHost) Remove(ctx context.Context, paths ...string) error {
	for _, p := range paths {
		if infos, err := h.Stat(ctx, p); err != nil {
			return err
		} else if !infos[0].Exists {
			continue
		}
		do, err := h.f.act(h, "remove "+p)
		if do {
			if err := h.Fake.Remove(context.WithoutCancel(ctx), p); err != nil {
				return err
			}
			h.kubelet()
		}
		if err != nil {
			return fmt.Errorf("remove %s: %w", p, err)
		}
	}
	return nil
}

// Run runs a command.
func (h *fleetHost) Run(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	what := strings.Join(cmd.Argv, " ")
	if cmd.Argv[0] == "systemd-run" {
		what = "exchange " + cmd.Argv[8]
	}
	do, err := h.f.act(h, what)
	if !do {
		return nil, err
	}
	out, failed := h.Fake.Run(context.WithoutCancel(ctx), cmd)
	if failed == nil && cmd.Argv[0] == "systemctl" {
		switch cmd.Argv[1] {
		case "enable", "disable": // both end with a daemon-reload, see systemctl(1)
			_, failed = h.Fake.Run(context.WithoutCancel(ctx), host.Command("systemctl", "daemon-reload"))
		case "start", "restart":
			h.starts()
		}
		h.kubelet()
	}
	return out, errors.Join(failed, err)
}

func (h *fleetHost) note(file string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now++
	h.written[file] = h.now
}

// touch writes a file as somebody other than the code under test would.
func (h *fleetHost) touch(file string, mode fs.FileMode, data string) {
	h.Put(host.File{Path: file, Mode: mode, Data: []byte(data)})
	h.note(file)
	h.kubelet()
}

// lose has somebody else delete a file.
func (h *fleetHost) lose(file string) {
	h.Delete(file)
	h.kubelet()
}

// systemctl is somebody else's.
func (h *fleetHost) systemctl(verb string) {
	if _, err := h.Fake.Run(context.Background(), host.Command("systemctl", verb, "kubelet.service")); err != nil {
		panic(err) // the test's own doing
	}
}

// starts is what a kubelet does that has started: it tells the API of itself, whatever way that takes.
func (h *fleetHost) starts() {
	h.mu.Lock()
	h.now++
	h.started = h.now
	at := h.now
	conf, _ := h.Get(config.KubeletConfigFile)
	ill := h.ill != nil && h.ill(kubelet, program{manifest: string(conf.Data)})
	h.mu.Unlock()
	if ill {
		return
	}
	node := h.f.api.Object(nodeRef(h.node.Name))
	status, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&corev1.NodeStatus{
		NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: newVersion},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Unix(at, 0)}},
	})
	if err != nil {
		panic(err)
	}
	node.Object["status"] = status
	h.f.api.Put(h.f.t, node)
}

// kubelet starts static pods whose manifests are new, and ends those that have none. Without a kubelet all goes on.
func (h *fleetHost) kubelet() {
	if !h.units.Active("kubelet") {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range staticpod.Names {
		file, ok := h.Get(manifests.StaticPodPath(name))
		switch p, running := h.runs[name]; {
		case !ok:
			delete(h.runs, name)
		case !running || p.manifest != string(file.Data):
			h.runs[name] = h.read(file.Data)
		}
	}
}

// read is a program as it starts now, with the files that its flags and its mounts name.
func (h *fleetHost) read(manifest []byte) program {
	p := program{manifest: string(manifest), files: map[string]string{}}
	if _, err := manifests.PodImage(manifest); err != nil {
		return p
	}
	var pod corev1.Pod
	if err := yaml.Unmarshal(manifest, &pod); err != nil || len(pod.Spec.Containers) == 0 {
		return p
	}
	p.image = pod.Spec.Containers[0].Image
	for _, arg := range append(pod.Spec.Containers[0].Command, pod.Spec.Containers[0].Args...) {
		if _, at, ok := strings.Cut(arg, "="); ok && path.IsAbs(at) && path.Clean(at) == at {
			if file, ok := h.Get(at); ok {
				p.files[at] = string(file.Data)
			}
		}
	}
	return p
}

// serving is the certificate that an API server was started with.
func (p program) serving() (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair([]byte(p.files[config.PKIDir+"/apiserver.crt"]), []byte(p.files[config.PKIDir+"/apiserver.key"]))
	return &pair, err
}

// fails tells whether a program ends as soon as it is started. h.mu is held.
func (h *fleetHost) fails(name string, p program) bool {
	if h.ill != nil && h.ill(name, p) {
		return true
	}
	if p.image == "" {
		return true
	}
	if name == manifests.APIServerName {
		_, err := p.serving()
		return err != nil
	}
	return false
}

// serves tells whether a program runs and goes on running.
func (h *fleetHost) serves(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.runs[name]
	return ok && !h.fails(name, p)
}

// programs is staticpod.ProgramsScript. What fails has been started twice more at each look.
func (h *fleetHost) programs(*hosttest.Fake, host.Cmd) ([]byte, error) {
	var b strings.Builder
	active := h.units.Active("kubelet")
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range staticpod.Names {
		p, ok := h.runs[name]
		switch {
		case !ok:
			continue
		case h.fails(name, p):
			h.restarts[name] += 2
		default:
			version, _, _ := strings.Cut(staticpod.ImageVersion(p.image), "-")
			fmt.Fprintf(&b, "%s Version %s\n", name, version)
		}
		fmt.Fprintf(&b, "restarts:%s %s %d\n", name, name, h.restarts[name])
	}
	if active {
		fmt.Fprintf(&b, "kubelet Kubernetes %s\n", newVersion)
	}
	if conf, _ := h.Get(config.KubeletConfigFile); h.ill != nil && h.ill(kubelet, program{manifest: string(conf.Data)}) {
		h.restarts[kubelet] += 2
	}
	fmt.Fprintf(&b, "restarts:kubelet unit %d\n", h.restarts[kubelet])
	return []byte(b.String()), nil
}

// showUnit is phases.UnitScript.
func (h *fleetHost) showUnit(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
	unit, files := cmd.Argv[4], cmd.Argv[5:]
	out, err := f.Query(context.Background(), host.Command("systemctl", "show", "-p", "LoadState,ActiveState,UnitFileState,NeedDaemonReload", unit))
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	b.Write(out)
	fmt.Fprintf(&b, "ExecMainStartTimestamp=%s\n", time.Unix(h.started, 0).UTC().Format("Mon 2006-01-02 15:04:05 MST"))
	for _, file := range files {
		if _, ok := f.Get(file); ok {
			fmt.Fprintf(&b, "written=%d\n", h.written[file])
		}
	}
	return []byte(b.String()), nil
}

// exchange does what a staticpod.Exchange does, step by step. A host that loses its power between two of them starts again,
// and with it whatever is to start then.
func (h *fleetHost) exchange(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
	ended, moves := strings.Fields(cmd.Argv[8]), cmd.Argv[13:]
	h.alone(ended)
	systemctl := func(verb ...string) {
		if _, err := f.Run(context.Background(), host.Command(append([]string{"systemctl"}, verb...)...)); err != nil {
			h.f.t.Error(err)
		}
	}
	steps := []func(){func() { systemctl("stop", "kubelet.service") }}
	for _, name := range ended {
		steps = append(steps, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			delete(h.runs, name)
		})
	}
	var missing error
	for ; len(moves) > 0; moves = moves[3:] {
		from, to, keep := moves[0], moves[1], moves[2]
		steps = append(steps, func() {
			if there, ok := f.Get(to); ok && keep != "" {
				h.move(there, keep, h.written[to])
			}
		}, func() {
			file, ok := f.Get(from)
			if !ok {
				missing = &host.ExitError{Argv: cmd.Argv, Code: 1, Stderr: []byte("mv: cannot stat " + from)}
				return
			}
			h.move(file, to, h.written[from])
			f.Delete(from)
		})
	}
	for _, step := range append(steps, func() { systemctl("daemon-reload") }) {
		if !h.f.step() {
			h.boot()
			h.f.lose()
			return nil, errCut
		}
		if step(); missing != nil {
			break
		}
	}
	systemctl("start", "kubelet.service")
	h.starts()
	h.kubelet()
	return nil, missing
}

// move puts a file in a place, with the time in which it was written.
func (h *fleetHost) move(file host.File, to string, written int64) {
	file.Path = to
	h.Put(file)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.written[to] = written
}

// boot is a start of the host.
func (h *fleetHost) boot() {
	h.mu.Lock()
	h.runs = map[string]program{}
	h.mu.Unlock()
	if h.units.Enabled("kubelet") {
		h.systemctl("daemon-reload")
		h.units.Start("kubelet")
		h.starts()
		h.kubelet()
	}
}

// alone fails the test when an API server or an etcd ends while another one is away, or while a load balancer would still
// send requests to it.
func (h *fleetHost) alone(ended []string) {
	for _, other := range h.f.hosts {
		for _, name := range ended {
			if !slices.Contains([]string{manifests.APIServerName, manifests.EtcdName}, name) {
				continue
			}
			if other != h && other.node.HasRole(config.RoleControlPlane) && !other.serves(name) {
				h.f.t.Errorf("%s ends on %s while it is away on %s", name, h.node.Name, other.node.Name)
			}
		}
		file, ok := other.Get(manifests.HAProxyConfigPath)
		several := len(h.f.ControlPlanes()) > 1 && h.serves(manifests.APIServerName)
		if ok && several && slices.Contains(ended, manifests.APIServerName) && strings.Contains(string(file.Data), h.node.AdvertiseAddress+":6443") {
			h.f.t.Errorf("the API server of %s ends, and the load balancer of %s sends requests to it", h.node.Name, other.node.Name)
		}
	}
}

// wrong is what runs otherwise than the files would have it.
func (h *fleetHost) wrong() []string {
	var found []string
	if !h.units.Active("kubelet") || !h.units.Enabled("kubelet") || !h.units.RunsCurrent("kubelet") {
		found = append(found, "its kubelet does not run as its unit says")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for file, at := range h.written {
		if isKubelets(file) && at > h.started {
			found = append(found, "its kubelet was started before "+file+" was written")
		}
	}
	for _, name := range staticpod.Names {
		file, ok := h.Get(manifests.StaticPodPath(name))
		p, runs := h.runs[name]
		now := h.read(file.Data)
		switch {
		case ok != runs:
			found = append(found, fmt.Sprintf("%s runs: %t", name, runs))
		case ok && (p.manifest != now.manifest || !maps.Equal(p.files, now.files)):
			found = append(found, name+" runs with older files")
		case ok && h.fails(name, p):
			found = append(found, name+" fails")
		}
	}
	return found
}
