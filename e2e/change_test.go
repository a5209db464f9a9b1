//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/myadm/myadm/e2e/lab"
)

// planned is what -o json tells of a plan, of which docs/plan.schema.json says more.
type planned struct {
	Changes int `json:"changes"`
	Hosts   []struct {
		Name   string         `json:"name"`
		Phases []plannedPhase `json:"phases"`
	} `json:"hosts"`
	ClusterPhases []plannedPhase `json:"clusterPhases"`
	Errors        []any          `json:"errors"`
	Warnings      []any          `json:"warnings"`
	APIVersion    string         `json:"apiVersion"`
	Cluster       string         `json:"cluster"`
	Version       string         `json:"kubernetesVersion"`
	Summary       map[string]int `json:"summary"`
}

type plannedPhase struct {
	Name    string `json:"name"`
	Changes []struct {
		Action string `json:"action"`
		Object string `json:"object"`
		Detail string `json:"detail"`
		Diff   string `json:"diff"`
	} `json:"changes"`
}

// objects are what changes where, as "h1: /etc/file" and "cluster: Deployment kube-system/coredns", sorted.
func (p planned) objects() []string {
	var all []string
	add := func(where string, phases []plannedPhase) {
		for _, phase := range phases {
			for _, c := range phase.Changes {
				all = append(all, where+": "+c.Object)
			}
		}
	}
	for _, h := range p.Hosts {
		add(h.Name, h.Phases)
	}
	add("cluster", p.ClusterPhases)
	slices.Sort(all)
	return all
}

// plan asks what apply would change; it ends with 4 when there is something.
func (s *site) plan(t *testing.T, args ...string) planned {
	t.Helper()
	r := s.myadm(t, nil, append([]string{"plan", "-f", s.document, "--bundle", s.bundle, "-o", "json", "--exit-code"}, args...)...)
	if r.code != 0 && r.code != 4 {
		t.Fatalf("the plan failed: %s", r)
	}
	p := decode[planned](t, r)
	if (p.Changes > 0) != (r.code == 4) || len(p.objects()) != p.Changes {
		t.Errorf("%d changes, %d of them told, and exit code %d", p.Changes, len(p.objects()), r.code)
	}
	return p
}

// wantPlan compares a plan with all that it is to name.
func (s *site) wantPlan(t *testing.T, want []string, args ...string) {
	t.Helper()
	slices.Sort(want)
	s.awaitPlan(t, func(objects []string) string { return cmp.Diff(want, objects, cmpopts.EquateEmpty()) }, args...)
}

// awaitPlan makes plans until differ has nothing to say of the objects of one: what has come back a moment ago may be ready
// only in the next one, and that is told as well.
func (s *site) awaitPlan(t *testing.T, differ func(objects []string) string, args ...string) {
	t.Helper()
	eventually(t, time.Minute, "the plan", func(context.Context) error {
		p := s.plan(t, args...)
		if diff := differ(p.objects()); diff != "" {
			return fmt.Errorf("(-want +got):\n%s%+v", diff, p)
		}
		return nil
	})
}

// applied is what -o json tells of an apply.
type applied struct {
	Cluster       string   `json:"cluster"`
	Endpoint      string   `json:"endpoint"`
	Version       string   `json:"kubernetesVersion"`
	ControlPlanes []string `json:"controlPlanes"`
	Workers       []string `json:"workers"`
	Changes       int      `json:"changes"`
	Seconds       float64  `json:"seconds"`
	Kubeconfig    string   `json:"kubeconfig"`
}

// each names the same objects on several hosts.
func each(hosts []string, objects ...string) []string {
	var all []string
	for _, h := range hosts {
		for _, o := range objects {
			all = append(all, h+": "+o)
		}
	}
	return all
}

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
rules: [{level: Metadata}]
`

// TestChange makes a cluster of bare hosts by apply alone, and changes its document step by step: each time the plan names
// what changes and nothing else, apply does that and nothing else, and then the plan is empty.
func TestChange(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 6})
	servers, bare := []string{"h1", "h2", "h3"}, s.look(t, "h6")
	spec := func(map[string]any) {}
	set := func(change func(spec map[string]any)) { // on top of what was changed before
		before := spec
		spec = func(s map[string]any) { before(s); change(s) }
	}
	host := func(spec map[string]any, name string) map[string]any {
		for _, h := range spec["hosts"].([]any) {
			if h := h.(map[string]any); h["name"] == name {
				return h
			}
		}
		t.Fatalf("the document has no %s", name)
		return nil
	}
	workers := []string{"h4", "h5"}
	write := func() { s.document = s.write(t, servers, workers, spec) }
	// apply makes what a plan is to name, and has to make just that.
	apply := func(t *testing.T, want []string) {
		t.Helper()
		s.wantPlan(t, want)
		r := s.apply(t, "-v", "-o", "json")
		if got := decode[applied](t, r).Changes; got != len(want) {
			t.Errorf("%d changes were planned, and %d made: %s", len(want), got, r)
		}
		s.wantPlan(t, nil)
	}

	write()
	if p := s.plan(t); p.Changes < 100 {
		t.Errorf("of bare hosts: %d changes", p.Changes)
	}
	s.apply(t)
	s.waitAvailable(t)
	s.wantPlan(t, nil)

	t.Run("a plan changes nothing", func(t *testing.T) {
		before, objects := s.touched(t, "h1"), s.restingObjects(t)
		workers = []string{"h4", "h5", "h6"}
		write()
		s.plan(t, "--diff")
		if diff := before.difference(s.touched(t, "h1")); diff != "" {
			t.Errorf("files of h1 (-before +after):\n%s", diff)
		}
		if diff := objects.difference(s.restingObjects(t)); diff != "" {
			t.Errorf("objects (-before +after):\n%s", diff)
		}
		s.wantAsFound(t, "h6", bare)
	})
	t.Run("a worker is added", func(t *testing.T) {
		s.awaitPlan(t, func(objects []string) string {
			others := slices.DeleteFunc(objects, func(o string) bool { return strings.HasPrefix(o, "h6: ") || strings.HasPrefix(o, "cluster: ") })
			return cmp.Diff([]string(nil), others, cmpopts.EquateEmpty())
		})
		s.apply(t)
		s.wantReady(t, "h1", "h2", "h3", "h4", "h5", "h6")
		s.wantPlan(t, nil)
	})
	t.Run("a worker is removed", func(t *testing.T) {
		workers = []string{"h4", "h5"}
		write()
		s.wantPlan(t, nil) // it stays until it is named
		known := []string{"--prune", "h6", "--known-hosts", s.Path("known_hosts")}
		if got := s.plan(t, known...).objects(); !slices.Contains(got, "cluster: Node h6") {
			t.Errorf("the plan does not name it: %q", got)
		}
		s.apply(t, known...)
		s.wantReady(t, "h1", "h2", "h3", "h4", "h5")
		s.wantAsFound(t, "h6", bare)
		s.wantPlan(t, nil, known...)
	})
	t.Run("a control plane is added", func(t *testing.T) {
		servers = []string{"h1", "h2", "h3", "h6"}
		write()
		s.apply(t)
		s.wantReady(t, "h1", "h2", "h3", "h4", "h5", "h6")
		s.wantMembers(t, servers...)
		s.wantPlan(t, nil)
	})
	t.Run("and removed", func(t *testing.T) {
		servers = []string{"h1", "h2", "h3"}
		write()
		s.apply(t, "--prune", "h6", "--known-hosts", s.Path("known_hosts"))
		s.wantMembers(t, servers...)
		s.wantPlan(t, nil)
	})

	manifest := "/etc/kubernetes/manifests/kube-apiserver.yaml"
	told := "cluster: ConfigMap kube-system/kubeadm-config"
	for _, tt := range []struct {
		name   string
		change func(spec map[string]any)
		want   []string
		check  func(t *testing.T)
	}{
		{"a label and a taint", func(spec map[string]any) {
			host(spec, "h4")["labels"] = map[string]any{"disk": "ssd"}
			host(spec, "h4")["taints"] = []any{map[string]any{"key": "gpu", "effect": "PreferNoSchedule"}}
		}, []string{"h4: Node h4"}, func(t *testing.T) {
			if got := s.kubectl(t, "get", "nodes", "-l", "disk=ssd", "-o", "jsonpath={.items[*].metadata.name} {.items[*].spec.taints[*].key}"); got != "h4 gpu" {
				t.Errorf("got %q", got)
			}
		}},
		{"a flag of the API server", func(spec map[string]any) {
			spec["apiServer"] = map[string]any{"extraArgs": []any{map[string]any{"name": "goaway-chance", "value": "0.001"}}}
		}, append(each(servers, manifest), told), func(t *testing.T) {
			for _, h := range servers {
				s.shell(t, h, "pgrep -f 'kube-apiserver.*goaway-chance=0.001'")
			}
		}},
		{"an audit policy", func(spec map[string]any) {
			must(t, os.WriteFile(filepath.Join(filepath.Dir(s.document), "audit.yaml"), []byte(auditPolicy), 0o600))
			at := "/etc/kubernetes/audit-policy.yaml"
			spec["apiServer"] = map[string]any{
				"extraArgs":    []any{map[string]any{"name": "audit-policy-file", "value": at}, map[string]any{"name": "audit-log-path", "value": "/dev/null"}},
				"extraVolumes": []any{map[string]any{"name": "audit-policy", "file": "audit.yaml", "hostPath": at, "mountPath": at, "readOnly": true}},
			}
		}, append(each(servers, manifest, "/etc/kubernetes/audit-policy.yaml"), told), func(t *testing.T) {
			for _, h := range servers {
				if got := s.output(t, h, "cat", "/etc/kubernetes/audit-policy.yaml"); got != auditPolicy {
					t.Errorf("%s has %q", h, got)
				}
			}
		}},
		{"a name in the API server's certificate", func(spec map[string]any) {
			spec["certificates"] = map[string]any{"apiServerSANs": []any{"api.example.org"}}
		}, append(each(servers, "/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/pki/apiserver.key"), told), func(t *testing.T) {
			for _, h := range servers {
				s.wantServed(t, h, "api.example.org")
			}
		}},
		{"a setting of the kubelets", func(spec map[string]any) {
			spec["kubelet"].(map[string]any)["maxPods"] = 99
		}, append(each([]string{"h1", "h2", "h3", "h4", "h5"}, "/var/lib/kubelet/config.yaml"), "cluster: ConfigMap kube-system/kubelet-config"), func(t *testing.T) {
			eventually(t, time.Minute, "99 pods on each node", func(context.Context) error {
				if got := s.kubectl(t, "get", "nodes", "-o", "jsonpath={.items[*].status.capacity.pods}"); got != "99 99 99 99 99" {
					return errors.New(got)
				}
				return nil
			})
		}},
		{"replicas of CoreDNS", func(spec map[string]any) {
			spec["dns"] = map[string]any{"replicas": 3}
		}, []string{"cluster: Deployment kube-system/coredns"}, s.waitAvailable},
		{"a patch of a static pod", func(spec map[string]any) {
			spec["scheduler"] = map[string]any{"patch": map[string]any{"metadata": map[string]any{"labels": map[string]any{"team": "a"}}}}
		}, each(servers, "/etc/kubernetes/manifests/kube-scheduler.yaml"), func(t *testing.T) {
			eventually(t, time.Minute, "three schedulers of team a", func(context.Context) error {
				if got := strings.Fields(s.kubectl(t, "-n", "kube-system", "get", "pods", "-l", "team=a", "-o", "name")); len(got) != 3 {
					return fmt.Errorf("%q", got)
				}
				return nil
			})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set(tt.change)
			write()
			apply(t, tt.want)
			tt.check(t)
		})
	}
	t.Run("what cannot be changed", func(t *testing.T) {
		before := s.document
		defer func() { s.document = before }()
		for _, tt := range []struct {
			change func(spec map[string]any)
			code   int
			words  []string
		}{
			{func(spec map[string]any) { spec["networking"] = map[string]any{"podSubnet": "10.99.0.0/16"} }, 1,
				[]string{"spec.networking.podSubnet: the cluster has 10.244.0.0/16", "hint: write 10.244.0.0/16 again"}},
			{func(spec map[string]any) { host(spec, "h2")["advertiseAddress"] = "192.0.2.7" }, 1,
				[]string{"advertiseAddress of h2: the cluster has 10.", "since the members of etcd know each other by it", "hint: write 10."}},
			{func(spec map[string]any) { host(spec, "h4")["name"] = "h4-renamed" }, 3,
				[]string{"the host is the node h4 of its cluster, and would be h4-renamed", "hint: give it name: h4 in the document"}},
		} {
			s.document = s.write(t, servers, workers, func(m map[string]any) { spec(m); tt.change(m) })
			s.myadm(t, nil, s.applyArgs()...).want(t, tt.code).wantWords(t, tt.words...)
		}
	})
	t.Run("what does not become healthy is put back", func(t *testing.T) {
		before := s.document
		defer func() { s.document = before }()
		s.document = s.write(t, servers, workers, func(m map[string]any) {
			spec(m)
			m["controllerManager"] = map[string]any{"extraArgs": []any{map[string]any{"name": "no-such-flag", "value": "1"}}}
		})
		s.myadm(t, nil, s.applyArgs()...).want(t, 1).wantWords(t, "unknown flag: --no-such-flag", "what ran before is back and healthy")
		s.document = before
		s.apply(t)
		s.wantPlan(t, nil)
	})
	t.Run("damage", s.testDamage)
	t.Run("a label and a taint leave the document", func(t *testing.T) {
		set(func(spec map[string]any) {
			delete(host(spec, "h4"), "labels")
			delete(host(spec, "h4"), "taints")
		})
		write()
		apply(t, []string{"h4: Node h4"})
		if got := s.kubectl(t, "get", "node", "h4", "-o", "jsonpath={.metadata.labels.disk} {.metadata.labels.theirs} {.spec.taints}"); got != " stays " {
			t.Errorf("h4 has %q", got)
		}
	})
	s.wantReady(t, "h1", "h2", "h3", "h4", "h5")
	s.waitAvailable(t)
}

// testDamage does by hand what a plan is to find, all at once.
func (s *site) testDamage(t *testing.T) {
	var want []string
	for _, d := range []struct{ where, script, object string }{
		{"h1", "echo '# mine' >> /etc/kubernetes/manifests/kube-scheduler.yaml", "/etc/kubernetes/manifests/kube-scheduler.yaml"},
		{"h2", "rm /etc/kubernetes/scheduler.conf", "/etc/kubernetes/scheduler.conf"},
		{"h3", "chmod 0644 /etc/kubernetes/pki/sa.key", "/etc/kubernetes/pki/sa.key"},
		{"h4", "echo 'maxPods: 7' >> /var/lib/kubelet/config.yaml", "/var/lib/kubelet/config.yaml"},
		{"h2", "systemctl stop kubelet", "unit kubelet.service"},
		{"h4", "systemctl disable containerd", "unit containerd.service"},
		{"h3", "rm /etc/systemd/system/kubelet.service.d/10-kubeadm.conf", "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf"},
		{"h3", "echo >> /etc/containerd/config.toml", "/etc/containerd/config.toml"},
		{"h4", "rm /usr/local/sbin/runc", "/usr/local/sbin/runc"},
	} {
		s.shell(t, d.where, d.script)
		want = append(want, d.where+": "+d.object)
	}
	s.kubectl(t, "taint", "node", "h4", "gpu-")
	want = append(want, "h4: Node h4")
	s.kubectl(t, "-n", "kube-system", "patch", "configmap", "kubelet-config", "-p", `{"data":{"kubelet":"kind: KubeletConfiguration"}}`)
	want = append(want, "cluster: ConfigMap kube-system/kubelet-config")
	s.kubectl(t, "-n", "kube-system", "delete", "daemonset", "kube-proxy")
	want = append(want, "cluster: DaemonSet kube-system/kube-proxy")
	s.kubectl(t, "delete", "clusterrolebinding", "kubeadm:get-nodes")
	want = append(want, "cluster: ClusterRoleBinding kubeadm:get-nodes")
	s.kubectl(t, "label", "node", "h4", "theirs=stays")
	got := s.plan(t).objects()
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("the plan does not name %s", w)
		}
	}
	t.Logf("%d kinds of damage, and %d changes: %q", len(want), len(got), got)
	s.apply(t)
	s.wantPlan(t, nil)
	if got := s.kubectl(t, "get", "node", "h4", "-o", "jsonpath={.metadata.labels.theirs}"); got != "stays" {
		t.Errorf("the label of somebody else is %q", got)
	}
}

// wantServed asks a control plane's API server for its certificate.
func (s *site) wantServed(t *testing.T, host, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	raw, err := s.dialFrom(t, host)(ctx, "tcp", s.address(t, host, "6443"))
	must(t, err)
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true}) // what is asked is which certificate it is
	defer conn.Close()
	must(t, conn.HandshakeContext(ctx))
	if err := conn.ConnectionState().PeerCertificates[0].VerifyHostname(name); err != nil {
		t.Errorf("%s: %v", host, err)
	}
}
