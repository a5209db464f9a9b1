package cmd

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/myadm/myadm/config"
)

// labelServer is a mirror that knows labels, and how often it was asked.
func labelServer(t *testing.T) (url string, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	labels := map[string]string{"stable": "v1.38.0", "stable-1.37": "v1.37.5\n", "latest-1.37": "v1.37.6-rc.0", "stable-1.36": "v1.37.2"}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/k8s/dl.k8s.io/release/"), ".txt")
		if labels[name] == "" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, labels[name])
	}))
	t.Cleanup(s.Close)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	return s.URL + "/k8s", asked
}

func TestResolveVersion(t *testing.T) {
	mirror, asked := labelServer(t)
	for _, tt := range []struct {
		version, want, told string
		err                 string
		asked               int32
	}{
		{version: "v1.37.2", want: "v1.37.2"},
		{version: "stable-1.37", want: "v1.37.5", told: "Kubernetes stable-1.37 is v1.37.5.\n", asked: 1},
		{version: "latest-1.37", want: "v1.37.6-rc.0", told: "Kubernetes latest-1.37 is v1.37.6-rc.0.\n", asked: 1},
		{version: "stable", want: "stable", err: "stable stands for v1.38.0: Kubernetes v1.38.0 is not supported; hint: ", asked: 1},
		{version: "stable-1.36", want: "stable-1.36", err: `"v1.37.2" is no version of stable-1.36`, asked: 1},
		{version: "latest-1.36", want: "latest-1.36", err: "does not have it; check the version", asked: 1},
	} {
		t.Run(tt.version, func(t *testing.T) {
			asked.Store(0)
			cfg := &config.Cluster{}
			cfg.Spec.KubernetesVersion, cfg.Spec.Artifacts.Mirror = tt.version, mirror
			var told bytes.Buffer
			err := resolveVersion(t.Context(), Streams{Err: &told}, cfg)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v, want %q", err, tt.err)
			}
			if got := cfg.Spec.KubernetesVersion; got != tt.want || told.String() != tt.told || asked.Load() != tt.asked {
				t.Errorf("%s, told %q, asked %d times; want %+v", got, told.String(), asked.Load(), tt)
			}
		})
	}
}

// A label is resolved before a host is asked, by the commands that make something of a version, and by no others.
func TestCommandsResolveLabels(t *testing.T) {
	mirror, asked := labelServer(t)
	document := filepath.Join(t.TempDir(), "cluster.yaml")
	text := "apiVersion: myadm.dev/v1alpha1\nkind: Cluster\nspec:\n  kubernetesVersion: stable-1.37\n  artifacts: {mirror: '" + mirror +
		"'}\n  hosts:\n  - {name: cp-1, address: 127.0.0.1, roles: [control-plane], ssh: {port: 1, user: nobody}}\n" // nobody listens there
	if err := os.WriteFile(document, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", t.TempDir())
	for _, tt := range []struct {
		args string
		told string // empty: nobody is asked
	}{
		{"init -f DOC", "Kubernetes stable-1.37 is v1.37.5."},
		{"init -f DOC --kubernetes-version latest-1.37", "Kubernetes latest-1.37 is v1.37.6-rc.0."},
		{"init -f DOC --kubernetes-version v1.36.3", ""},
		{"apply -f DOC", "Kubernetes stable-1.37 is v1.37.5."},
		{"upgrade plan -f DOC", "Kubernetes stable-1.37 is v1.37.5."},
		{"upgrade plan latest-1.37 -f DOC", "Kubernetes latest-1.37 is v1.37.6-rc.0."},
		{"upgrade apply latest-1.37 -f DOC", "Kubernetes latest-1.37 is v1.37.6-rc.0."},
		{"upgrade apply v1.37.2 -f DOC", ""},
		{"upgrade node cp-1 -f DOC", "Kubernetes stable-1.37 is v1.37.5."},
		{"upgrade diff stable-1.37 -f DOC", "Kubernetes stable-1.37 is v1.37.5."},
		{"join -f DOC", ""},
		{"status -f DOC", ""},
		{"token list -f DOC", ""},
		{"kubeconfig -f DOC", ""},
		{"etcd members -f DOC", ""},
		{"reset --all --yes -f DOC", ""},
		{"config validate -f DOC", ""},
	} {
		t.Run(tt.args, func(t *testing.T) {
			asked.Store(0)
			var out, told bytes.Buffer
			code := Main(t.Context(), strings.Fields(strings.ReplaceAll(tt.args, "DOC", document)), Streams{In: strings.NewReader(""), Out: &out, Err: &told})
			lines := strings.Count(told.String(), "Kubernetes ")
			if tt.told == "" && (lines > 0 || asked.Load() > 0) || tt.told != "" && (!strings.HasPrefix(told.String(), tt.told+"\n") || lines != 1 || asked.Load() != 1) {
				t.Errorf("asked %d times, told %q, want %q", asked.Load(), told.String(), tt.told)
			}
			if !strings.HasPrefix(tt.args, "config") && code != exitFailed {
				t.Errorf("exit code %d for a host that does not answer: %s", code, told.String())
			}
		})
	}
}

// What a bundle has counts, and nobody is asked.
func TestLabelsOfABundle(t *testing.T) {
	_, asked := labelServer(t)
	bundle := filepath.Join(t.TempDir(), "bundle")
	if err := makeBundle(bundle, "v1.36.3"); err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]string{
		"": "", "v1.36.3": "", "stable": "", "stable-1.36": "", "latest-1": "",
		"stable-1.37": "is of Kubernetes v1.36.3, and stable-1.37 is wanted; hint: name the bundle of that version",
		"v1.36.2":     "is of Kubernetes v1.36.3, and v1.36.2 is wanted; hint: ",
		"newest":      "is of Kubernetes v1.36.3, and newest is wanted; hint: ",
	} {
		cfg := &config.Cluster{}
		cfg.Spec.KubernetesVersion, cfg.Spec.Artifacts.Bundle = version, bundle
		b, err := openBundle(cfg)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", version, err, want)
		}
		if err != nil {
			if code := exitCode(t.Context(), err); code != exitUsage {
				t.Errorf("%q: exit code %d", version, code)
			}
			continue
		}
		if got := cfg.Spec.KubernetesVersion; got != "v1.36.3" {
			t.Errorf("%q becomes %q", version, got)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if asked.Load() > 0 {
		t.Error("somebody was asked")
	}
}

// Phases that make nothing of the version run also where the cluster has another one.
func TestSelectionPlacesVersion(t *testing.T) {
	for _, tt := range []struct {
		s    selection
		want bool
	}{
		{selection{}, true}, {selection{only: []string{"control-plane"}}, true}, {selection{only: []string{"upload-certs"}}, false},
		{selection{only: []string{"network", "addons"}}, true}, {selection{skip: []string{"certs"}}, true},
	} {
		if got := tt.s.placesVersion(); got != tt.want {
			t.Errorf("%+v: %t", tt.s, got)
		}
	}
	known := initPhases()
	for _, name := range []string{"runtime", "binaries", "images", "etcd", "control-plane", "upload-config", "addons"} {
		found := false
		for _, p := range known {
			found = found || p.Name == name
		}
		if !found {
			t.Errorf("init has no phase %s", name)
		}
	}
}

// What an upgrade goes to is the argument's, else the bundle's, else the document's, and never a label.
func TestUpgradeDocument(t *testing.T) {
	mirror, _ := labelServer(t)
	dir := t.TempDir()
	bundle := filepath.Join(dir, "bundle")
	if err := makeBundle(bundle, "v1.36.3"); err != nil {
		t.Fatal(err)
	}
	write := func(name, version string) string {
		text := "apiVersion: myadm.dev/v1alpha1\nkind: Cluster\nspec:\n  kubernetesVersion: " + version + "\n  artifacts: {mirror: '" + mirror +
			"'}\n  hosts:\n  - {name: cp-1, address: 192.0.2.1, roles: [control-plane]}\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	label, none := write("label.yaml", "stable-1.37"), write("none.yaml", "")
	for _, tt := range []struct {
		file, bundle, version, want string
	}{
		{none, "", "", ""},
		{label, "", "", "v1.37.5"},
		{label, "", "v1.37.2", "v1.37.2"},
		{none, "", "latest-1.37", "v1.37.6-rc.0"},
		{label, bundle, "", "v1.36.3"},
		{label, bundle, "stable-1.36", "v1.36.3"},
		{"", bundle, "", "v1.36.3"},
	} {
		flags := upgradeTarget{target: target{file: tt.file, bundle: tt.bundle}}
		_, b, to, err := flags.document(t.Context(), Streams{Err: new(bytes.Buffer)}, tt.version)
		if err != nil || to != tt.want {
			t.Errorf("%+v: %q, %v", tt, to, err)
		}
		if b != nil {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	// Commands on a cluster as it is do not have the label.
	running := target{file: label}
	cfg, err := running.loadRunning(config.RoleControlPlane)
	if err != nil || cfg.Spec.KubernetesVersion != "" {
		t.Errorf("%q, %v", cfg.Spec.KubernetesVersion, err)
	}
}
