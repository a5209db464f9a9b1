package manifests_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
)

func TestProxyFiles(t *testing.T) {
	p := kubeadmCluster(t, func(s *config.Spec) {
		s.Proxy = config.Proxy{HTTPProxy: "http://ops:pa$$%22word@proxy.example.org:3128", HTTPSProxy: "http://proxy.example.org:3128", NoProxy: []string{".example.org"}}
	})
	golden(t, "proxy/proxy.env", manifests.ProxyEnv(p))
	golden(t, "proxy/containerd.conf", manifests.ProxyDropIn(manifests.ContainerdProxyPath))
	golden(t, "proxy/kubelet.conf", manifests.ProxyDropIn(manifests.KubeletProxyPath))
	golden(t, "proxy/none.env", manifests.ProxyEnv(kubeadmCluster(t)))
	for _, f := range []struct{ data []byte }{{manifests.ProxyEnv(p).Data}, {manifests.ProxyDropIn(manifests.KubeletProxyPath).Data}} {
		if !manifests.Marked(f.data) {
			t.Errorf("there is no mark in\n%s", f.data)
		}
	}
}

// systemd's double quotes are those of a shell, and a shell is at hand.
func TestProxyEnvIsReadAsItWasMeant(t *testing.T) {
	want := `http://o'ps:a$HOME` + "`id`" + `\"\\x!@proxy:3128`
	p := kubeadmCluster(t, func(s *config.Spec) { s.Proxy = config.Proxy{HTTPSProxy: config.ProxyURL(want)} })
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, manifests.ProxyEnv(p).Data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `unset HTTP_PROXY; . "$1"; printf '%s|%s|%s' "$HTTPS_PROXY" "$HTTP_PROXY" "$NO_PROXY"`, "sh", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out); got != want+"||"+strings.Join(config.NoProxyOf(p.Cluster), ",") {
		t.Errorf("got %s", got)
	}
}
