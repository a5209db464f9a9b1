package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
)

func controlPlane(t *testing.T, name string, files ...host.File) (*Node, *hosttest.Fake) {
	f := hosttest.New(t, name)
	f.Put(files...)
	f.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	})
	return &Node{Host: f, Spec: config.Host{Name: name, Roles: []config.Role{config.RoleControlPlane}}}, f
}

func conf(path string, data []byte) host.File { return host.File{Path: path, Mode: 0o600, Data: data} }

func TestAdminKubeconfigIsTheStrongest(t *testing.T) {
	super, admin := conf(config.SuperAdminConf, []byte("super")), conf(config.AdminConf, []byte("admin"))
	for _, tt := range []struct {
		name  string
		files []host.File
		want  string // empty: none
	}{
		{"the first control plane", []host.File{super, admin}, "super"},
		{"any other", []host.File{admin}, "admin"},
		{"before there is a cluster", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, f := controlPlane(t, "cp-1", tt.files...)
			got, err := AdminKubeconfig(t.Context(), f)
			if string(got) != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestKubeGoesThroughTheControlPlane(t *testing.T) {
	server := kubetest.NewServer(t)
	blank, _ := controlPlane(t, "cp-1")
	n, f := controlPlane(t, "cp-2", conf(config.AdminConf, server.Kubeconfig()))
	dialled := 0
	f.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled++
		return new(net.Dialer).DialContext(ctx, network, address)
	})
	worker, _ := controlPlane(t, "w-1", conf(config.AdminConf, server.Kubeconfig()))
	worker.Spec.Roles = []config.Role{config.RoleWorker} // and so it is not asked
	c := &Cluster{Nodes: []*Node{worker, blank, n}}
	client, err := c.Kube(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if _, err := client.Get(t.Context(), kube.Ref{APIVersion: "v1", Kind: "Namespace", Name: "kube-system"}); err != nil {
		t.Error(err)
	}
	if dialled == 0 {
		t.Error("the API was not reached through the control plane")
	}
	f.Lose(errors.New("gone"))
	if again, err := c.Kube(t.Context()); again != client || err != nil {
		t.Errorf("the client is made twice: %v", err)
	}
}

func TestKubeWithoutACluster(t *testing.T) {
	blank, _ := controlPlane(t, "cp-1")
	lost, f := controlPlane(t, "cp-2")
	f.Lose(errors.New("no answer"))
	bad, _ := controlPlane(t, "cp-3", conf(config.AdminConf, []byte("{")))

	c := &Cluster{Nodes: []*Node{blank}}
	if _, err := c.Kube(t.Context()); !errors.Is(err, ErrNoCluster) || !strings.Contains(err.Error(), "hint: run myadm init") {
		t.Errorf("blank: got %v, want ErrNoCluster", err)
	}
	// After init, the same Cluster finds its API.
	blank.Host.(*hosttest.Fake).Put(conf(config.AdminConf, kubetest.NewServer(t).Kubeconfig()))
	client, err := c.Kube(t.Context())
	if err != nil {
		t.Errorf("after init: %v", err)
	} else {
		client.Close()
	}

	// A control plane that cannot be asked may have a cluster: that is no ErrNoCluster.
	for _, n := range []*Node{lost, bad} {
		c := &Cluster{Nodes: []*Node{n}}
		_, err := c.Kube(t.Context())
		if err == nil || errors.Is(err, ErrNoCluster) || !strings.HasPrefix(err.Error(), fmt.Sprintf("%s: ", n.Name())) {
			t.Errorf("%s: got %v", n.Name(), err)
		}
	}
}
