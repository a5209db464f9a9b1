package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/e2e/lab"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/ssh"
)

// dialFarm logs in at every host of a farm, through a link if there is one.
func dialFarm(t *testing.T, f *farm, link *lab.Link) []*ssh.Host {
	t.Helper()
	var hosts []*ssh.Host
	for i, s := range f.servers {
		target := ssh.Target{Name: fmt.Sprintf("h%d", i+1), Address: "127.0.0.1", Port: s.Port(), User: "root", KeyFile: s.Key, HostKey: s.HostKey()}
		if link != nil {
			near, err := link.Address(target.Name)
			if err != nil {
				t.Fatal(err)
			}
			target.Port = int(near.Port())
		}
		h, err := ssh.Dial(t.Context(), target, ssh.Options{UserConfigFile: os.DevNull, KnownHostsFiles: []string{os.DevNull}, ConnectTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		hosts = append(hosts, h)
	}
	return hosts
}

// Every host of a farm has files of its own, as commands and SFTP see them, and a document names them all.
func TestFarm(t *testing.T) {
	dir := t.TempDir()
	f, err := newFarm(t.Context(), dir, 4)
	if err != nil {
		t.Fatal(err)
	}
	hosts := dialFarm(t, f, nil)
	for i, h := range hosts {
		id, err := h.Run(t.Context(), host.Command("cat", "/etc/machine-id"))
		if want := fmt.Sprintf("%032x\n", i+1); err != nil || string(id) != want {
			t.Errorf("%s has the machine-id %q, %v", h.Name(), id, err)
		}
		if err := h.WriteFiles(t.Context(), host.File{Path: "/etc/name", Mode: 0o644, Data: []byte(h.Name())}); err != nil {
			t.Error(err)
		}
	}
	for _, h := range hosts {
		if name, err := h.ReadFile(t.Context(), "/etc/name"); err != nil || string(name) != h.Name() {
			t.Errorf("%s has the file of %q, %v", h.Name(), name, err)
		}
	}
	if _, err := os.Stat("/etc/name"); err == nil {
		t.Error("it is this machine's /etc that was written to")
	}

	data, err := f.document()
	if err != nil {
		t.Fatal(err)
	}
	var cfg config.Cluster
	if err := yaml.UnmarshalStrict(data, &cfg); err != nil {
		t.Fatal(err)
	}
	config.SetDefaults(&cfg)
	if err := config.Validate(&cfg); err != nil {
		t.Error(err)
	}
	if len(cfg.Spec.Hosts) != 4 || len(cfg.Spec.Hosts[3].Roles) != 1 || cfg.Spec.Hosts[3].Roles[0] != config.RoleWorker {
		t.Errorf("hosts %+v", cfg.Spec.Hosts)
	}

	if err := f.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("files of the farm are left")
	}
}

// Far away, a command takes one round trip and not two, since its session is open before.
func TestCommandsTakeOneRoundTrip(t *testing.T) {
	const trip = 300 * time.Millisecond
	f, err := newFarm(t.Context(), t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.close(); err != nil {
			t.Error(err)
		}
	})
	link := lab.NewLink(t.Context(), 0)
	t.Cleanup(link.Close)
	if err := link.Add("h1", f.servers[0].Addr); err != nil {
		t.Fatal(err)
	}
	link.SetLatency(trip)
	h := dialFarm(t, f, link)[0]
	quickest := time.Hour
	for range 10 { // a machine that is busy with other things may make any of them slow
		began := time.Now()
		if _, err := h.Run(t.Context(), host.Command("true")); err != nil {
			t.Fatal(err)
		}
		quickest = min(quickest, time.Since(began))
	}
	if quickest < trip || quickest >= 2*trip {
		t.Errorf("a command takes %s at least, of which a round trip is %s", quickest, trip)
	}
}

func TestScaleReport(t *testing.T) {
	r := report{Kubernetes: "v1.37.2", CPUs: 2, Scale: []scaled{
		{25, usage{2, 0.5, 2.5, 80}, usage{1, 0.25, 1, 70}},
		{225, usage{22, 4.5, 30, 220}, usage{9, 1.25, 12, 150}},
	}}
	var out strings.Builder
	if err := r.writeText(&out, false); err != nil {
		t.Fatal(err)
	}
	want := "a further host: apply 100.0 ms (20.0 ms of CPU) and 700 kB, again 40.0 ms (5.0 ms) and 400 kB; 500 MB is the limit\n"
	if got := out.String(); !strings.HasSuffix(got, want) {
		t.Errorf("the report does not end with %q:\n%s", want, got)
	}
}
