package upgrade

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/staticpod"
	"github.com/myadm/myadm/workflow"
)

func TestComparePod(t *testing.T) {
	const image, older, newer = "registry.k8s.io/kube-scheduler:v1.37.2", "registry.k8s.io/kube-scheduler:v1.36.3", "registry.k8s.io/etcd:3.9.0-0"
	wanted := func(name, image string) []byte { return manifestOf(name, image, "--v=2") }
	for _, tt := range []struct {
		name, component string
		have            []byte
		want            []byte
		differs         bool
		from, image     string
	}{
		{"as it should be", "kube-scheduler", wanted("kube-scheduler", image), wanted("kube-scheduler", image), false, image, image},
		{"another flag", "kube-scheduler", manifestOf("kube-scheduler", image, "--v=3"), wanted("kube-scheduler", image), true, image, image},
		{"another image", "kube-scheduler", wanted("kube-scheduler", older), wanted("kube-scheduler", image), true, older, image},
		{"it is gone", "kube-scheduler", nil, wanted("kube-scheduler", image), true, "", image},
		{"it is no pod", "kube-scheduler", []byte("["), wanted("kube-scheduler", image), true, "", image},
		{"an etcd from elsewhere", "etcd", wanted("etcd", "registry.k8s.io/etcd:3.7.0-0"), wanted("etcd", "registry.example.org/etcd:3.7.0-0"), true, "registry.k8s.io/etcd:3.7.0-0", "registry.example.org/etcd:3.7.0-0"},
		{"an etcd that is newer stays", "etcd", wanted("etcd", newer), wanted("etcd", "registry.k8s.io/etcd:3.7.0-0"), false, newer, newer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := comparePod(tt.component, tt.have, tt.want)
			if err != nil {
				t.Fatal(err)
			}
			if p.differs != tt.differs || p.from != tt.from || p.image != tt.image {
				t.Errorf("differs %t, from %q to %q", p.differs, p.from, p.image)
			}
			if got, err := manifests.PodImage(p.manifest); err != nil || got != tt.image {
				t.Errorf("it gets the image %q, %v", got, err)
			}
		})
	}
}

// What reads a file is started anew with it, once for all files; and what cannot do without its API server as well.
func TestPiecesAreExchangedWithWhatReadsThem(t *testing.T) {
	file := func(path string) host.File { return host.File{Path: path, Mode: 0o600, Data: []byte("new")} }
	changed := func(paths ...string) (files phases.MemberFiles) {
		for _, path := range append(paths, config.AdminConf) {
			files.Files = append(files.Files, file(path))
		}
		for _, path := range paths {
			files.Changes = append(files.Changes, workflow.Change{Action: workflow.Update, Object: path, Detail: "content"})
		}
		return files
	}
	pki := func(name string) string { return config.PKIDir + "/" + name }
	for _, tt := range []struct {
		name    string
		changed []string
		end     []string
		still   bool
	}{
		{"nothing", nil, nil, true},
		{"what nobody has open", []string{config.SuperAdminConf, pki("etcd/healthcheck-client.crt")}, nil, true},
		{"the kubelet's own", []string{config.KubeletConfigFile, manifests.KubeletDropInPath}, nil, false},
		{"the API server's certificate", []string{pki("apiserver.crt"), pki("apiserver.key")}, []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"}, false},
		{"etcd's certificate", []string{pki("etcd/server.crt")}, []string{"etcd"}, false},
		{"etcd's authority", []string{pki("etcd/ca.crt")}, []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"}, false},
		{"a kubeconfig", []string{config.SchedulerConf}, []string{"kube-scheduler"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := machine{stays: true, pieces: pieces(changed(tt.changed...))}
			for _, name := range staticpod.Names {
				m.pods = append(m.pods, pod{name: name, image: "a", from: "a"})
			}
			if m.still() != tt.still || len(m.changes()) != len(tt.changed) {
				t.Errorf("still %t, %d changes", m.still(), len(m.changes()))
			}
			e, files := m.exchange()
			if diff := cmp.Diff(tt.end, e.End); diff != "" {
				t.Errorf("ends (-want +got):\n%s", diff)
			}
			if len(files) != len(tt.changed) || len(e.Moves) != len(tt.changed) {
				t.Fatalf("%d files, %d moves", len(files), len(e.Moves))
			}
			for i, path := range tt.changed {
				if move := e.Moves[i]; move.To != path || move.From != files[i].Path || !strings.HasPrefix(move.Keep, folder+"/") || move.Keep == move.From {
					t.Errorf("the move is %+v, and the file %s", move, files[i].Path)
				}
			}
		})
	}
}

// A mode is mended while everybody goes on reading.
func TestAModeEndsNobody(t *testing.T) {
	files := phases.MemberFiles{
		Files:   []host.File{{Path: config.PKIDir + "/sa.key", Mode: 0o600}},
		Changes: []workflow.Change{{Action: workflow.Update, Object: config.PKIDir + "/sa.key", Detail: "mode 0644 to 0600"}},
	}
	if m := (machine{stays: true, pieces: pieces(files)}); !m.still() || len(m.ends()) > 0 {
		t.Errorf("it ends %q", m.ends())
	}
}
