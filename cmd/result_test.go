package cmd

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

var ran = workflow.Summary{Changes: 7, Elapsed: 12340 * time.Millisecond}

func newKey(t *testing.T) certs.CertificateKey {
	t.Helper()
	key, err := certs.NewCertificateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// made is a cluster of two control planes and a worker that was made, with a token to join by.
func made(t *testing.T) *cluster.Cluster {
	t.Helper()
	server := kubetest.NewServer(t)
	cfg := &config.Cluster{Metadata: config.Metadata{Name: "prod"}, Spec: config.Spec{KubernetesVersion: "v1.37.2", Hosts: []config.Host{
		{Name: "cp-1", AdvertiseAddress: "10.0.0.1", Roles: []config.Role{config.RoleControlPlane}},
		{Name: "cp-2", AdvertiseAddress: "10.0.0.2", Roles: []config.Role{config.RoleControlPlane}},
		{Name: "w-1", AdvertiseAddress: "10.0.0.3"},
	}}}
	config.SetDefaults(cfg)
	c := &cluster.Cluster{Config: cfg, Now: time.Now, Rand: rand.Reader, Version: "test"}
	for _, h := range cfg.Spec.Hosts {
		c.Nodes = append(c.Nodes, &cluster.Node{Host: hosttest.New(t, h.Name), Spec: h})
	}
	first := c.Nodes[0].Host.(*hosttest.Fake)
	first.OnDial(new(net.Dialer).DialContext)
	first.Put(
		host.File{Path: config.SuperAdminConf, Mode: 0o600, Data: server.Kubeconfig()},
		host.File{Path: config.PKIDir + "/ca.crt", Mode: 0o644, Data: server.CA()},
	)
	if _, err := new(workflow.Runner).Run(t.Context(), phases.BootstrapToken(c, c.Nodes[0], time.Hour)); err != nil {
		t.Fatal(err)
	}
	return c
}

// fields are those of a JSON object.
func fields(t *testing.T, data []byte) map[string]any {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	return all
}

// What init prints is enough for any further host; the key comes only when the cluster keeps what it opens.
func TestInitTellsHowToGoOn(t *testing.T) {
	c := made(t)
	key := newKey(t)
	for _, tt := range []struct {
		name string
		key  certs.CertificateKey
	}{{"with a key", key}, {"without a key", certs.CertificateKey{}}} {
		t.Run(tt.name, func(t *testing.T) {
			var text, data bytes.Buffer
			flags := initFlags{target: target{file: "cluster.yaml"}, kubeconfigOut: "admin.conf"}
			if err := tellInit(t.Context(), Streams{Out: &text}, flags, c, c.Nodes[0], tt.key, ran); err != nil {
				t.Fatal(err)
			}
			flags.output.format = "json"
			if err := tellInit(t.Context(), Streams{Out: &data}, flags, c, c.Nodes[0], tt.key, ran); err != nil {
				t.Fatal(err)
			}
			got := fields(t, data.Bytes())
			join, _ := got["joinCommand"].(string)
			if !strings.HasPrefix(join, "myadm join 10.0.0.1:6443 --token ") || !strings.Contains(join, " --discovery-token-ca-cert-hash sha256:") {
				t.Errorf("hosts join with %q", join)
			}
			if got["certificateKey"] != nil != (tt.key == key) || tt.key == key && got["certificateKey"] != key.Reveal() {
				t.Errorf("the key is %v", got["certificateKey"])
			}
			want := []string{
				"The control plane of cluster prod (Kubernetes v1.37.2) is up on cp-1, in 12.3 s with 7 changes.",
				"  kubectl --kubeconfig admin.conf get nodes\n", "  myadm join -f cluster.yaml\n", "  " + join + "\n",
			}
			if tt.key == key {
				want = append(want, "  "+join+" --control-plane --certificate-key "+key.Reveal()+"\n")
			}
			for _, part := range want {
				if !strings.Contains(text.String(), part) {
					t.Errorf("%q is not in\n%s", part, text.String())
				}
			}
			if told := strings.Contains(text.String(), "--certificate-key"); told != (tt.key == key) {
				t.Errorf("a key is told of: %t", told)
			}
		})
	}
}

// A single phase prints its key, for a script to take; others have none to print.
func TestUploadCertsPrintsItsKey(t *testing.T) {
	key := newKey(t)
	for _, tt := range []struct {
		name   string
		only   string
		format string
		key    certs.CertificateKey
		want   string
	}{
		{"for people", "upload-certs", "", key, key.Reveal() + "\n"},
		{"for programs", "upload-certs", "json", key, "{\n  \"certificateKey\": \"" + key.Reveal() + "\"\n}\n"},
		{"another phase", "certs", "", key, ""},
		{"no key", "upload-certs", "", certs.CertificateKey{}, ""},
	} {
		var out bytes.Buffer
		flags := initFlags{selection: selection{only: []string{tt.only}}, output: outputFlag{tt.format}}
		if err := tellKey(Streams{Out: &out}, flags, tt.key); err != nil || out.String() != tt.want {
			t.Errorf("%s: got %q, %v", tt.name, out.String(), err)
		}
	}
}

func TestApplyTellsWhatThereIs(t *testing.T) {
	c := made(t)
	var text, data bytes.Buffer
	flags := applyFlags{kubeconfigOut: "admin.conf"}
	if err := flags.tell(Streams{Out: &text}, c, ran); err != nil {
		t.Fatal(err)
	}
	want := "\nCluster prod (Kubernetes v1.37.2) has 2 control planes and 1 workers, in 12.3 s with 7 changes.\n" +
		"\nUse it:\n  kubectl --kubeconfig admin.conf get nodes\n"
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	flags.output.format = "json"
	if err := flags.tell(Streams{Out: &data}, c, ran); err != nil {
		t.Fatal(err)
	}
	wantFields := map[string]any{
		"cluster": "prod", "endpoint": "10.0.0.1:6443", "kubernetesVersion": "v1.37.2", "controlPlanes": []any{"cp-1", "cp-2"}, "workers": []any{"w-1"},
		"changes": 7.0, "seconds": 12.34, "kubeconfig": "admin.conf",
	}
	if diff := cmp.Diff(wantFields, fields(t, data.Bytes())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
