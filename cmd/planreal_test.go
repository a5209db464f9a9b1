package cmd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/myadm/myadm/apply"
	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/workflow"
)

// secretDocument is a cluster of three hosts, with a secret in every place of a document that can have one.
const secretDocument = `
apiVersion: myadm.dev/v1alpha1
kind: Cluster
metadata: {name: prod}
spec:
  kubernetesVersion: v1.36.3
  hosts:
  - {name: cp-1, address: 10.0.0.1, advertiseAddress: 10.0.0.1, roles: [control-plane]}
  - {name: cp-2, address: 10.0.0.2, advertiseAddress: 10.0.0.2, roles: [control-plane]}
  - {name: w-1, address: 10.0.0.3, advertiseAddress: 10.0.0.3}
  proxy: {httpProxy: "http://ops:MARKER@proxy.example.org:3128"}
  registries: [{name: docker.io, mirrors: [https://hub.example.org], credentialsFile: config.json}]
  networking: {manifests: [mine.yaml]}
  apiServer: {extraEnvs: [{name: KMS_TOKEN, value: MARKER}]}
  controllerManager: {extraEnvs: [{name: KMS_TOKEN, value: MARKER}]}
  scheduler: {extraEnvs: [{name: KMS_TOKEN, value: MARKER}]}
  etcd: {extraEnvs: [{name: KMS_TOKEN, value: MARKER}]}
`

// secretFiles stand beside it.
var secretFiles = map[string]string{
	"config.json": `{"auths": {"hub.example.org": {"auth": "b3BzOk1BUktFUg=="}}}`, // ops:MARKER
	"mine.yaml": `
apiVersion: v1
kind: Secret
metadata: {name: mine, namespace: default, annotations: {copy: MARKER}}
stringData: {password: MARKER}
data: {key: TUFSS0VS}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: mine, namespace: default}
data: {url: "https://me:MARKER@db.example.org", "conf.yaml": "password: MARKER \n"}
`,
}

// bareCluster is the document's, of hosts with nothing on them and hardly an answer to any question.
func bareCluster(t *testing.T) (*cluster.Cluster, []*hosttest.Fake) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range secretFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Parse(filepath.Join(dir, "cluster.yaml"), []byte(secretDocument))
	if err != nil {
		t.Fatal(err)
	}
	config.SetDefaults(cfg)
	if err := errors.Join(config.Validate(cfg), makeBundle(filepath.Join(dir, "bundle"), cfg.Spec.KubernetesVersion)); err != nil {
		t.Fatal(err)
	}
	c := &cluster.Cluster{Config: cfg, Now: time.Now, Rand: rand.Reader, Version: "test"}
	if c.Bundle, err = bundle.Open(filepath.Join(dir, "bundle")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Bundle.Close() })
	var fakes []*hosttest.Fake
	for _, h := range cfg.Spec.Hosts {
		f := hosttest.New(t, h.Name)
		f.OnPrefix("sh").Do(func(_ *hosttest.Fake, cmd host.Cmd) ([]byte, error) { // changes nothing: the fake lets a plan ask it
			if strings.Contains(cmd.Argv[2], "systemctl show") {
				return []byte("LoadState=not-found\nActiveState=inactive\nUnitFileState=\nNeedDaemonReload=no\nExecMainStartTimestamp=\n"), nil
			}
			return nil, nil
		})
		f.OnDial(func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") })
		fakes = append(fakes, f)
		c.Nodes = append(c.Nodes, &cluster.Node{Host: f, Spec: h, Facts: cluster.Facts{Hostname: h.Name, Arch: "amd64"}})
	}
	return c, fakes
}

// contents are all files of a host.
func contents(f *hosttest.Fake) map[string]string {
	all := map[string]string{}
	for _, path := range f.Paths("/") {
		file, _ := f.Get(path)
		all[path] = fmt.Sprintf("%v %s", file.Mode, file.Data)
	}
	return all
}

// A plan of all that apply does, by the real phases on bare hosts, is whole, changes nothing and shows no secret, in its text
// and in JSON. A host that is lost does not keep it from telling of the others.
func TestPlanOfRealPhases(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../docs/plan.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, lost := range []string{"", "w-1"} {
		t.Run("lost "+lost, func(t *testing.T) {
			c, fakes := bareCluster(t)
			var before []map[string]string
			for _, f := range fakes {
				before = append(before, contents(f))
				if f.Name() == lost {
					f.Lose(errors.New("no route to host"))
				}
			}
			steps := apply.Steps(c, &apply.State{Founder: c.Nodes[0], Arriving: c.Nodes}, apply.Options{Patience: time.Minute, TokenTTL: time.Hour})
			runner := workflow.Runner{Skip: []string{"preflight"}} // which has the hosts wait for each other
			plan, err := runner.Plan(workflow.WithDiffs(t.Context()), steps...)
			d := newPlanDocument(c, plan, err)
			for _, e := range d.Errors {
				if e.Host != lost || lost == "" {
					t.Errorf("%s: %s: %s", e.Host, e.Phase, e.Error)
				}
			}
			for _, h := range d.Hosts {
				if (len(h.Phases) < 5) != (h.Name == lost) {
					t.Errorf("%s has %d phases", h.Name, len(h.Phases))
				}
			}
			if (len(d.Errors) > 0) != (lost != "") || len(d.ClusterPhases) < 3 || d.Summary.Create < 50 {
				t.Errorf("%d errors, %d phases on the cluster, %d to create", len(d.Errors), len(d.ClusterPhases), d.Summary.Create)
			}
			for i, f := range fakes {
				if diff := cmp.Diff(before[i], contents(f)); diff != "" || len(f.Writes())+len(f.Runs())+len(f.Removed()) > 0 {
					t.Errorf("%s was changed (-before +after):\n%s", f.Name(), diff)
				}
			}
			for _, opts := range []planViewOptions{{}, {Verbose: true}, {Diff: true}, {Diff: true, Color: true}} {
				var out bytes.Buffer
				if err := writePlan(&out, d, opts); err != nil {
					t.Fatal(err)
				}
				noSecrets(t, out.String())
				if shown := strings.Contains(out.String(), "+++ /etc/kubernetes/manifests/kube-apiserver.yaml"); shown != opts.Diff {
					t.Errorf("%+v: there are diffs: %t", opts, shown)
				}
			}
			data, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			noSecrets(t, string(data))
			if err := schema.Validate(decodeJSON(t, data)); err != nil {
				t.Error(err)
			}
		})
	}
}

func noSecrets(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{"MARKER", "TUFSS0VS", "b3BzOk1BUktFUg", "PRIVATE KEY", "client-key-data"} {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("%s is in ...%s...", secret, text[max(0, at-100):min(len(text), at+40)])
		}
	}
}
