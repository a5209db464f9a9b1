package cmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/workflow"
)

// planned makes a plan of a cluster of five hosts, by phase and host.
type planned struct {
	cluster *cluster.Cluster
	plan    workflow.Plan
	err     error
}

// newPlanned is an empty plan. The hosts' names are addresses in messages, as those of a document without names are.
func newPlanned(t testing.TB, names ...string) *planned {
	cfg := &config.Cluster{Metadata: config.Metadata{Name: "prod"}, Spec: config.Spec{KubernetesVersion: "v1.37.2"}}
	p := &planned{cluster: &cluster.Cluster{Config: cfg}}
	for i, name := range names {
		h := config.Host{Name: name, Address: fmt.Sprintf("10.0.0.%d", i+1)}
		cfg.Spec.Hosts = append(cfg.Spec.Hosts, h)
		p.cluster.Nodes = append(p.cluster.Nodes, &cluster.Node{Spec: h, Host: hosttest.New(t, h.Address)})
	}
	return p
}

// on adds what a phase changes on a host, "" for the cluster: "create /etc/file (detail)".
func (p *planned) on(name, phase string, changes ...string) *planned {
	h := workflow.HostPlan{Changes: []workflow.Change{}}
	for _, n := range p.cluster.Nodes {
		if n.Spec.Name == name {
			h.Host = n.Name()
		}
	}
	for _, text := range changes {
		action, object, _ := strings.Cut(text, " ")
		object, detail, _ := strings.Cut(strings.TrimSuffix(object, ")"), " (")
		h.Changes = append(h.Changes, workflow.Change{Action: workflow.Action(action), Object: object, Detail: detail})
	}
	p.plan.Phases = append(p.plan.Phases, workflow.PhasePlan{Name: phase, Hosts: []workflow.HostPlan{h}})
	return p
}

// warns adds what the phase that was added last tells.
func (p *planned) warns(text string) *planned {
	at := &p.plan.Phases[len(p.plan.Phases)-1].Hosts[0]
	at.Warnings = append(at.Warnings, text)
	return p
}

// diff gives the last change a diff.
func (p *planned) diff(text string) *planned {
	changes := p.plan.Phases[len(p.plan.Phases)-1].Hosts[0].Changes
	changes[len(changes)-1].Diff = text
	return p
}

func (p *planned) document() planDocument { return newPlanDocument(p.cluster, p.plan, p.err) }

// many are changes of numbered objects.
func many(n int, format string) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(format, i))
	}
	return all
}

// plans are plans by the name of their golden files.
func plans(t testing.TB) map[string]*planned {
	five := func() *planned { return newPlanned(t, "cp-1", "cp-2", "cp-3", "w-1", "w-2") }

	nothing := five().on("cp-1", "kubelet").on("w-1", "kubelet").on("", "addons")

	warned := five().on("w-1", "preflight").warns("[ClockSkew] the clock is 6s behind; hint: set it").
		on("w-1", "preflight").warns("[ClockSkew] the clock is 6s behind; hint: set it").warns("[Swap] swap is on").
		on("", "addons").warns("coredns is not waited for")

	edited := five().
		on("cp-2", "control-plane", "update /etc/kubernetes/manifests/kube-apiserver.yaml (content)").
		diff("--- /etc/kubernetes/manifests/kube-apiserver.yaml\n+++ /etc/kubernetes/manifests/kube-apiserver.yaml\n@@ -17,6 +17,7 @@\n     - --audit-log-maxage=30\n+    - --profiling=false\n-    - name: \x1b[2JKMS_TOKEN\n       value: ***\n").
		on("cp-2", "registries", "update /etc/containerd/certs.d/docker.io/hosts.toml (content)").diff("(secret: changed, not shown)").
		on("w-1", "kubelet", "update /var/lib/kubelet/config.yaml (content)", "delete /etc/old", "run unit kubelet.service (restart: its files are newer than it)").
		on("w-1", "mark-nodes", "update Node w-1 (metadata.labels[disk])").
		on("w-2", "kubelet", "update /var/lib/kubelet/config.yaml (content)", "delete /etc/old", "run unit kubelet.service (restart: its files are newer than it)").
		on("w-2", "mark-nodes", "update Node w-2 (metadata.labels[disk])").
		on("", "addons", "update ConfigMap kube-system/coredns (data.Corefile)").
		diff("--- ConfigMap kube-system/coredns\n+++ ConfigMap kube-system/coredns\n@@ -1,1 +1,1 @@\n-  Corefile: a\n+  Corefile: b\n... 7 more lines\n")

	bare := five()
	for _, name := range []string{"cp-1", "cp-2", "cp-3", "w-1", "w-2"} {
		bare.on(name, "kernel", append(append([]string{"create /etc/modules-load.d/k8s.conf", "create /etc/sysctl.d/k8s.conf"},
			many(3, "run module m%d (load)")...), many(5, "update sysctl net.%d (1)")...)...)
		if strings.HasPrefix(name, "cp") {
			bare.on(name, "certs", append(many(14, "create /etc/kubernetes/pki/%d.crt (missing)"), many(8, "create /etc/kubernetes/pki/etcd/%d.crt (missing)")...)...)
			bare.on(name, "images", many(9, "create image registry.k8s.io/i%d:v1")...)
		}
		bare.on(name, "binaries", append(many(3, "create /usr/local/bin/%d"), many(18, "create /opt/cni/bin/%d")...)...)
		bare.on(name, "kubelet", append(many(2, "create /var/lib/kubelet/%d"), "create /etc/systemd/system/kubelet.service", "create /usr/lib/other", "run unit kubelet.service (start)")...)
		bare.on(name, "wait-node", "run Node "+name+" (wait until it is Ready)")
	}
	bare.on("", "addons", append(many(4, "create ClusterRole %d"), "create ConfigMap kube-system/coredns", "create Deployment kube-system/coredns", "create Deployment kube-system/more")...)
	bare.on("", "a-phase-with-a-long-name", "create bootstrap token (for 24h0m0s)")

	gone := errors.New("w-2: connect to 10.0.0.5: no route to host; hint: start it")
	half := five().on("cp-1", "kubelet", "update /var/lib/kubelet/config.yaml (content)")
	half.cluster.Nodes, half.cluster.Missing = half.cluster.Nodes[:4], []cluster.Missing{{Spec: half.cluster.Config.Spec.Hosts[4], Err: gone}}
	half.err = errors.Join(gone, errors.Join(
		&workflow.PhaseError{Phase: "kubelet", Host: "10.0.0.3", Err: errors.New("read /var/lib/kubelet/config.yaml: permission denied")},
		&workflow.PhaseError{Phase: "wait-node", Host: "10.0.0.3", Err: errors.New("two\nlines\x07")},
		&workflow.PhaseError{Phase: "load-balancer", Host: "10.0.0.3", Err: errors.New("read /var/lib/kubelet/config.yaml: permission denied")},
		&workflow.PhaseError{Phase: "addons", Err: errors.New("get ConfigMap kube-system/coredns: refused")},
	))

	lost := newPlanned(t, "cp-1")
	lost.err = errors.New("two hosts are one")
	return map[string]*planned{"nothing": nothing, "warned": warned, "edited": edited, "bare": bare, "half": half, "lost": lost}
}

func TestWritePlan(t *testing.T) {
	for _, tt := range []struct {
		plan, file string
		opts       planViewOptions
	}{
		{"nothing", "nothing.txt", planViewOptions{}},
		{"edited", "edited.txt", planViewOptions{}},
		{"edited", "edited-diff.txt", planViewOptions{Diff: true}},
		{"edited", "edited-color.txt", planViewOptions{Diff: true, Color: true}},
		{"bare", "bare.txt", planViewOptions{}},
		{"bare", "bare-verbose.txt", planViewOptions{Verbose: true}},
		{"half", "half.txt", planViewOptions{}},
		{"lost", "lost.txt", planViewOptions{}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			var out bytes.Buffer
			if err := writePlan(&out, plans(t)[tt.plan].document(), tt.opts); err != nil {
				t.Fatal(err)
			}
			golden(t, "plan/"+tt.file, out.Bytes())
			if !tt.opts.Color && bytes.ContainsRune(out.Bytes(), '\x1b') {
				t.Error("there is an escape in what has no colors")
			}
		})
	}
}

// One look must do for five bare hosts.
func TestPlanOfBareHostsFitsAScreen(t *testing.T) {
	var out bytes.Buffer
	p := plans(t)["bare"]
	if err := writePlan(&out, p.document(), planViewOptions{}); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(out.String(), "\n"); lines > 24 || p.plan.Changes() < 200 {
		t.Errorf("%d changes have %d lines", p.plan.Changes(), lines)
	}
}

// The schema in docs is that of what is written, and takes nothing else.
func TestPlanSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../docs/plan.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range plans(t) {
		var out bytes.Buffer
		if err := writeJSON(&out, p.document()); err != nil {
			t.Fatal(err)
		}
		golden(t, "plan/"+name+".json", out.Bytes())
		if err := schema.Validate(decodeJSON(t, out.Bytes())); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for field := range decodeJSON(t, out.Bytes()).(map[string]any) {
			doc := decodeJSON(t, out.Bytes()).(map[string]any)
			delete(doc, field)
			if schema.Validate(doc) == nil {
				t.Errorf("%s may lack %s", name, field)
			}
		}
	}
	doc := decodeJSON(t, []byte(`{"apiVersion": "myadm.dev/plan/v1", "cluster": "", "kubernetesVersion": "", "changes": 1,
		"summary": {"create": 0, "update": 0, "delete": 0, "run": 0}, "hosts": [], "clusterPhases": [{"name": "p", "changes": [{"action": "burn", "object": "o"}]}], "warnings": [], "errors": []}`))
	if schema.Validate(doc) == nil {
		t.Error("an action may be any word")
	}
}

func decodeJSON(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestPlanTellsItsEnd(t *testing.T) {
	for _, tt := range []struct {
		plan       string
		json, code bool
		want       int
		stderr     bool
	}{
		{"nothing", false, true, exitDone, false},
		{"warned", false, true, exitDone, true},
		{"warned", true, true, exitDone, true},
		{"edited", false, false, exitDone, false},
		{"edited", false, true, exitChanges, false},
		{"edited", true, true, exitChanges, false},
		{"half", false, true, exitFailed, false}, // the text tells the errors
		{"half", true, true, exitFailed, true},
	} {
		t.Run(fmt.Sprintf("%s json=%t exit-code=%t", tt.plan, tt.json, tt.code), func(t *testing.T) {
			p := plans(t)[tt.plan]
			flags := planFlags{exitCode: tt.code}
			if tt.json {
				flags.output.format = "json"
			}
			var out, errs bytes.Buffer
			err := flags.tell(Streams{Out: &out, Err: &errs}, p.document(), p.err)
			if code := exitCode(t.Context(), err); code != tt.want {
				t.Errorf("it ends with %d, %v", code, err)
			}
			if err != nil {
				printError(&errs, err, strings.Clone)
			}
			if (errs.Len() > 0) != tt.stderr || json.Valid(out.Bytes()) != tt.json {
				t.Errorf("it tells %q, and besides %q", out.String(), errs.String())
			}
		})
	}
}

func TestPlanTellsWarnings(t *testing.T) {
	var out, errs bytes.Buffer
	if err := new(planFlags).tell(Streams{Out: &out, Err: &errs}, plans(t)["warned"].document(), nil); err != nil {
		t.Fatal(err)
	}
	want := "warning: w-1: preflight: [ClockSkew] the clock is 6s behind\n  hint: set it\n" +
		"warning: w-1: preflight: [Swap] swap is on\nwarning: cluster: addons: coredns is not waited for\n"
	if errs.String() != want || strings.Contains(out.String(), "Swap") {
		t.Errorf("stderr has\n%sand stdout\n%s", errs.String(), out.String())
	}
}

func TestColorful(t *testing.T) {
	for _, tt := range []struct{ noColor, term string }{{"", ""}, {"1", ""}, {"", "dumb"}} {
		t.Setenv("NO_COLOR", tt.noColor)
		t.Setenv("TERM", tt.term)
		if colorful(new(bytes.Buffer)) || colorful(os.Stdin) && tt != struct{ noColor, term string }{} {
			t.Errorf("with %+v there are colors", tt)
		}
	}
}

func TestFolders(t *testing.T) {
	for _, tt := range []struct{ files, want string }{
		{"/etc/a /etc/b", "/etc"},
		{"/etc/x/a /etc/b /etc/x/y/c", "/etc"},
		{"/opt/a /etc/b", "/etc and /opt"},
		{"/etcetera/a /etc/b", "/etc and /etcetera"},
		{"/a/1 /b/1 /c/1", "/a and 2 other folders"},
		{"/a /b/c", "/"},
	} {
		if got := folders(strings.Fields(tt.files)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.files, got, tt.want)
		}
	}
}
