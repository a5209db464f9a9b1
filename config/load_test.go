package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const head = "apiVersion: myadm.dev/v1alpha1\nkind: Cluster\n" // the spec of every test starts on line 3

// sameCluster compares all but where the fields stood.
var sameCluster = cmp.Options{cmpopts.IgnoreUnexported(Cluster{}), cmpopts.EquateEmpty()}

func mustParse(t *testing.T, text string) *Cluster {
	t.Helper()
	c, err := Parse("/lab/cluster.yaml", []byte(text))
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return c
}

func TestParseReadsEveryKindOfField(t *testing.T) {
	c := mustParse(t, head+`
metadata: {name: prod}
spec:
  kubernetesVersion: v1.37.2
  apiServerPort: 0x1f90
  dns: {replicas: 3}
  certificates: {validity: 1h30m}
  hosts:
  - name: cp-1
    roles: [control-plane, worker]
    ssh: &ssh {user: ops, port: 2222}
    taints: []
    labels: {a.b/c: "1"}
  - name: w-1
    ssh: *ssh
    roles:
  apiServer:
    extraEnvs:
    - {name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
`)
	if c.Metadata.Name != "prod" || c.Spec.APIServerPort != 8080 || *c.Spec.DNS.Replicas != 3 {
		t.Errorf("scalars are wrong: %+v", c)
	}
	if c.Spec.Certificates.Validity.Duration != 90*time.Minute {
		t.Errorf("validity = %v", c.Spec.Certificates.Validity)
	}
	h := c.Spec.Hosts
	if !h[0].HasRole(RoleControlPlane) || !h[0].HasRole(RoleWorker) || h[1].Roles != nil {
		t.Errorf("roles = %v, %v", h[0].Roles, h[1].Roles)
	}
	if h[0].Taints == nil || h[1].Taints != nil {
		t.Errorf("an empty list of taints must differ from none: %#v, %#v", h[0].Taints, h[1].Taints)
	}
	if h[1].SSH != (SSH{User: "ops", Port: 2222}) {
		t.Errorf("an alias gave %+v", h[1].SSH)
	}
	if got := c.Spec.APIServer.ExtraEnvs[0].ValueFrom.ResourceFieldRef.Divisor.String(); got != "1m" {
		t.Errorf("divisor = %s", got)
	}
}

func TestParseKeepsUpstreamFieldsAsWritten(t *testing.T) {
	c := mustParse(t, head+`
spec:
  kubelet:
    failCgroupV1: false
    failSwapOn: false
    enforceNodeAllocatable: []
    maxPods: 110
    cpuCFSQuotaPeriod: 5ms
    evictionHard: {memory.available: 5%}
    logging: {options: {json: {infoBufferSize: 64Ki}}}
    podPidsLimit:
  kubeProxy:
    conntrack: {maxPerCore: 0, min: 0}
`)
	want := map[string]any{
		"failCgroupV1": false, "failSwapOn": false, "enforceNodeAllocatable": []any{}, "maxPods": int64(110), "cpuCFSQuotaPeriod": "5ms",
		"evictionHard": map[string]any{"memory.available": "5%"},
		"logging":      map[string]any{"options": map[string]any{"json": map[string]any{"infoBufferSize": "64Ki"}}},
	}
	if diff := cmp.Diff(want, c.Spec.Kubelet); diff != "" {
		t.Errorf("kubelet (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"conntrack": map[string]any{"maxPerCore": int64(0), "min": int64(0)}}, c.Spec.KubeProxy); diff != "" {
		t.Errorf("kubeProxy (-want +got):\n%s", diff)
	}
}

func TestParseErrors(t *testing.T) {
	spec := func(lines ...string) string { return head + "spec:\n  " + strings.Join(lines, "\n  ") + "\n" }
	tests := []struct {
		name, text string
		want       []string // whole messages, without the file's name
	}{
		{"empty", "", []string{" the document is empty; hint: `myadm config defaults` prints a whole one"}},
		{"only comments", "# nothing\n---\n", []string{" the document is empty; hint: `myadm config defaults` prints a whole one"}},
		{"a list", "- a\n", []string{"1:1: the document is a list and not a mapping; hint: `myadm config defaults` prints a whole document"}},
		{"text", "cluster", []string{"1:1: the document is text and not a mapping; hint: `myadm config defaults` prints a whole document"}},
		{"no type", "spec: {}\n", []string{
			"1:1: apiVersion: is missing; hint: write apiVersion: myadm.dev/v1alpha1", "1:1: kind: is missing; hint: write kind: Cluster"}},
		{"another type", "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\netcd: {}\n", []string{
			`1:13: apiVersion: "kubeadm.k8s.io/v1beta4" is not what myadm reads; hint: write apiVersion: myadm.dev/v1alpha1`,
			`2:7: kind: "ClusterConfiguration" is not what myadm reads; hint: write kind: Cluster`}},
		{"unknown field", spec("networking:", "  podSubnets: 10.0.0.0/8", "  zzz: 1"), []string{
			"5:5: spec.networking.podSubnets: unknown field; hint: did you mean podSubnet?", "6:5: spec.networking.zzz: unknown field"}},
		{"letter case", spec("Networking: {}"), []string{"4:3: spec.Networking: unknown field; hint: did you mean networking?"}},
		{"unknown field in upstream's type", spec("kubelet:", "  failSwapon: false", "  logging: {verbosty: 1}"), []string{
			"5:5: spec.kubelet.failSwapon: unknown field; hint: did you mean failSwapOn?",
			"6:15: spec.kubelet.logging.verbosty: unknown field; hint: did you mean verbosity?"}},
		{"twice", spec("dns: {}", "networking: {}", "dns: {}"), []string{"6:3: spec.dns: is here twice, first on line 4"}},
		{"wrong types", spec("apiServerPort: \"6443\"", "kubernetesVersion: 1.37", "dns: [1]", "hosts: {name: a}", "etcd: {extraArgs: [{name: a, value: true}]}"), []string{
			"4:18: spec.apiServerPort: expected a whole number, found text",
			"5:22: spec.kubernetesVersion: expected text, found a number; hint: put it in quotes",
			"6:8: spec.dns: expected fields, found a list",
			`7:10: spec.hosts: expected a list, found fields; hint: put "- " before each item, or all of them in [ ]`,
			"8:39: spec.etcd.extraArgs[0].value: expected text, found true or false; hint: put it in quotes"}},
		{"wrong types upstream", spec("kubelet:", "  failSwapOn: yes", "  maxPods: 1.5", "  enforceNodeAllocatable: pods", "  syncFrequency: 10", "  podPidsLimit: [1]", "kubeProxy: {conntrack: {min: -9999999999}}"), []string{
			"5:17: spec.kubelet.failSwapOn: expected true or false, found text; hint: write one of these words, without quotes",
			"6:14: spec.kubelet.maxPods: expected a whole number, found a number",
			`7:29: spec.kubelet.enforceNodeAllocatable: expected a list, found text; hint: put "- " before each item, or all of them in [ ]`,
			"8:20: spec.kubelet.syncFrequency: not a duration; hint: write hours, minutes or seconds, such as 8760h or 1m30s",
			"9:19: spec.kubelet.podPidsLimit: expected a whole number, found a list",
			"10:32: spec.kubeProxy.conntrack.min: the number is out of range"}},
		{"durations", spec("certificates: {caValidity: 10y, validity: {}}"), []string{
			"4:30: spec.certificates.caValidity: not a duration; hint: write hours, minutes or seconds, such as 8760h or 1m30s",
			"4:45: spec.certificates.validity: not a duration; hint: write hours, minutes or seconds, such as 8760h or 1m30s"}},
		{"an empty item", spec("hosts:", "- name: a", "  address: a", "-"), []string{"7:4: spec.hosts[1]: the item is empty; hint: remove the item or give it a value"}},
		{"fields that are unknown and values that are wrong come together", spec("kubernetesversion: v1.37.2", "networking: {podSubnet: x}", "apiServerPort: {a: 1}"), []string{
			"4:3: spec.kubernetesversion: unknown field; hint: did you mean kubernetesVersion?",
			"5:16: spec.networking.podSubnet: \"x\" is not a network; hint: write a network as ADDRESS/BITS, such as 10.244.0.0/16 or fd00:10:244::/48",
			"6:18: spec.apiServerPort: expected a whole number, found fields"}},
		{"odd keys", spec("1: a", "[a]: b", "true: c"), []string{
			"4:3: spec: a field's name is a number and not text; hint: put it in quotes",
			"5:3: spec: a field's name is a list and not text; hint: put it in quotes",
			"6:3: spec: a field's name is true or false and not text; hint: put it in quotes"}},
		{"merge key", spec("dns: &d {replicas: 1}", "etcd: {<<: *d}"), []string{"5:10: spec.etcd.<<: merge keys are not taken; hint: repeat the fields, or use an alias for the whole value"}},
		{"tags", spec("controlPlaneEndpoint: !!binary aGk=", "kubernetesVersion: !secret x", "apiServerPort: !!int x"), []string{
			"4:25: spec.controlPlaneEndpoint: the YAML tag !!binary is not taken; hint: remove the tag",
			"5:22: spec.kubernetesVersion: the YAML tag !secret is not taken; hint: remove the tag",
			"6:18: spec.apiServerPort: the number is out of range"}},
		{"not finite", spec("kubelet: {eventRecordQPS: .inf}"), []string{"4:29: spec.kubelet.eventRecordQPS: the number is out of range"}},
		{"huge number", spec("apiServerPort: 99999999999999999999999"), []string{"4:18: spec.apiServerPort: expected a whole number, found a number"}},
		{"a second document", head + "---\n" + head, []string{"4:1: a second document starts here; hint: keep one Cluster in a file"}},
		{"tab", head + "spec:\n\tdns: {}\n", []string{"4:1: not YAML: found character that cannot start any token; hint: line 4 is indented with a tab; YAML takes spaces only"}},
		{"open bracket", head + "spec: {dns: [\n", []string{"3:1: not YAML: did not find expected node content"}},
		{"latin-1", head + "metadata: {name: M\xfcnchen}\n", []string{"3:1: the text is not UTF-8; hint: save the file as UTF-8"}},
		{"control characters", head + "metadata: {name: \x01}\n", []string{" not YAML: control characters are not allowed"}},
		{"unknown alias", head + "spec: *x\n", []string{" not YAML: unknown anchor 'x' referenced"}},
		{"alias of itself", head + "spec: {dns: &d {replicas: 1}, kubelet: &k {featureGates: *k}}\n", []string{
			"3:40: spec.kubelet.featureGates[featureGates]: expected true or false, found fields"}},
		{"endless alias", head + "spec: {certificates: {validity: &a [*a]}}\n", []string{
			"3:33: spec.certificates.validity" + strings.Repeat("[0]", 31) + ": the document is nested too deep, or its aliases unfold to too much; hint: write it without anchors and aliases"}},
		{"too large", head + "#" + strings.Repeat("x", maxDocument), []string{" the document is larger than 1 MiB; hint: is this the right file?"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("c.yaml", []byte(tt.text))
			if err == nil {
				t.Fatalf("no error, got %+v", c)
			}
			var errs Errors
			if !errors.As(err, &errs) {
				t.Fatalf("%T is not Errors", err)
			}
			var got []string
			for line := range strings.SplitSeq(err.Error(), "\n") {
				got = append(got, strings.TrimPrefix(line, "c.yaml:"))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}

// Nested aliases double at each level: 2^30 hosts in 31 lines.
func TestParseStopsAtAnAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "spec:\n  apiServer: &a0 {extraArgs: [{name: a, value: b}]}\n  kubelet:\n    shutdownGracePeriodByPodPriority:\n")
	b.WriteString("    - &l0 {priority: 1}\n")
	for i := 1; i <= 30; i++ {
		fmt.Fprintf(&b, "    - &l%d [*l%d, *l%d]\n", i, i-1, i-1)
	}
	if _, err := Parse("c.yaml", []byte(b.String())); err == nil || len(err.Error()) > 1<<20 {
		t.Fatalf("an alias bomb gave %.200v", err)
	}
	// Where anything goes, only the budget ends it.
	w := &walker{at: map[string]position{}, budget: maxNodes}
	root, err := parseYAML("c.yaml", []byte("a: &a0 [x]\n"+func() (s string) {
		for i := 1; i <= 30; i++ {
			s += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i, i, i-1, i-1)
		}
		return s
	}()))
	if err != nil {
		t.Fatal(err)
	}
	w.anything(root, "", 0)
	if want := "the document is nested too deep, or its aliases unfold to too much"; len(w.errs) != 1 || w.errs[0].Message != want {
		t.Errorf("errors = %v, want one %q", w.errs, want)
	}
}

func TestParseTakesDeepNestingCalmly(t *testing.T) {
	for _, open := range []string{"[", "{a: ", "- "} {
		text := head + "spec:\n  kubelet:\n    featureGates: " + strings.Repeat(open, 20000)
		if _, err := Parse("c.yaml", []byte(text)); err == nil {
			t.Errorf("20000 times %q is taken", open)
		}
	}
}

func TestPathsAreRelativeToTheDocument(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	dir := t.TempDir()
	file := filepath.Join(dir, "cluster.yaml")
	text := head + `
spec:
  networking: {manifests: [net.yaml, /etc/net.yaml, https://example.org/net.yaml]}
  artifacts: {bundle: ../bundle, caFile: mirror.crt, credentialsFile: ~/login.json, signatures: {roots: r.json}}
  registries: [{name: a, caFile: ca.crt, credentialsFile: ~/.docker/config.json}]
  hosts: [{ssh: {keyFile: ~/.ssh/key, sudoPasswordFile: secrets/sudo}}]
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	c.eachPath(func(_ string, p *string) { got = append(got, *p) })
	want := []string{
		filepath.Join(dir, "net.yaml"), "/etc/net.yaml", "https://example.org/net.yaml",
		filepath.Join(home, ".ssh/key"), filepath.Join(dir, "secrets/sudo"), filepath.Join(filepath.Dir(dir), "bundle"),
		filepath.Join(dir, "mirror.crt"), filepath.Join(home, "login.json"), filepath.Join(dir, "r.json"),
		filepath.Join(dir, "ca.crt"), filepath.Join(home, ".docker/config.json"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}

	t.Setenv("HOME", "")
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), ":8:") || !strings.Contains(err.Error(), "spec.hosts[0].ssh.keyFile: ~ has no meaning here") {
		t.Errorf("without a home folder: %v", err)
	}
}

func TestLoadSaysWhichFileIsMissing(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("err = %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(DefaultDocument))
	f.Add([]byte(uncommented(DefaultDocument)))
	f.Add([]byte(`{"apiVersion":"myadm.dev/v1alpha1","kind":"Cluster","spec":{"dns":{"replicas":3}}}`))
	for _, spec := range []string{
		"spec: {hosts: [{ssh: &a {port: 1}}, {ssh: *a}]}", "spec: {kubelet: {a: 1, maxPods: 0x10, evictionHard: {x: \"a\\nb\"}}}",
		"spec: {<<: {}}", "spec: &a [*a]", "? [a]\n: b", "metadata: {name: \"0o7\"}", "metadata: {name: \"yes\\t \"}", "metadata: {name: 2001-01-01}",
		"spec: {kubeProxy: {conntrack: {maxPerCore: 0}, logging: {flushFrequency: 5}}}", "spec:\n\t- a", "%YAML 9.9\n---\na: b",
	} {
		f.Add([]byte(head + spec + "\n"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("c.yaml", data)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without a text")
			}
			return
		}
		_ = Validate(c) // must not panic, whatever it says
		again, err := Marshal(c)
		if err != nil {
			t.Fatalf("Marshal: %v", err)
		}
		d, err := Parse("c.yaml", again)
		if err != nil {
			t.Fatalf("what Marshal wrote is refused: %v\n%s", err, again)
		}
		if diff := cmp.Diff(c, d, sameCluster); diff != "" {
			t.Fatalf("what Marshal wrote is another cluster (-first +second):\n%s\n%s", diff, again)
		}
	})
}
