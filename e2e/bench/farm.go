package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/e2e/lab"
	"github.com/myadm/myadm/host/ssh/sshdtest"
)

// farm is many hosts without machines: an SSH server for each of them, all in this process. What they run is real, a shell
// and an sftp-server for every session as at any sshd, in a mount namespace in which /etc is the host's own folder on disk.
// What is not real: the kernel, /proc and the network are this machine's, and there is no systemd.
type farm struct {
	ground
	servers []*sshdtest.Server
}

// farmControlPlanes are the first hosts of a farm.
const farmControlPlanes = 3

// newFarm makes hosts whose files are below dir. The caller closes it.
func newFarm(ctx context.Context, dir string, hosts int) (f *farm, err error) {
	f = &farm{ground: ground{ctx: ctx, dir: dir}}
	defer func() {
		if failed := recover(); failed != nil {
			lost, ok := failed.(groundError)
			if !ok {
				panic(failed)
			}
			err = errors.Join(lost.error, f.close())
		}
	}()
	for i := range hosts {
		f.servers = append(f.servers, sshdtest.New(&f.ground, sshdtest.Config{
			Own: []string{"/etc"},
			Files: map[string]string{
				"/etc/machine-id": fmt.Sprintf("%032x\n", i+1),
				"/etc/os-release": "ID=debian\nPRETTY_NAME=\"a host of a farm\"\n",
			},
		}))
	}
	return f, nil
}

// document names the farm's hosts, with registries and a proxy, of which every host has files.
func (f *farm) document() ([]byte, error) {
	c := config.Cluster{APIVersion: config.APIVersion, Kind: config.Kind}
	c.Metadata.Name = "farm"
	c.Spec.KubernetesVersion = lab.DefaultKubernetesVersion
	c.Spec.Proxy.HTTPProxy = "http://proxy.example:3128"
	for _, name := range []string{"docker.io", "registry.k8s.io"} {
		c.Spec.Registries = append(c.Spec.Registries, config.Registry{Name: name, Mirrors: []string{"https://mirror.example/" + name}})
	}
	for i, s := range f.servers {
		role := config.RoleWorker
		if i < farmControlPlanes {
			role = config.RoleControlPlane
		}
		c.Spec.Hosts = append(c.Spec.Hosts, config.Host{
			Name: fmt.Sprintf("h%d", i+1), Address: "127.0.0.1", Roles: []config.Role{role},
			AdvertiseAddress: fmt.Sprintf("192.0.2.%d", i+1),
			SSH:              config.SSH{User: "root", Port: s.Port(), KeyFile: s.Key, HostKey: s.HostKey()},
		})
	}
	return yaml.Marshal(&c)
}

// ground is what a server of sshdtest stands on when there is no test: the part of testing.TB that it uses.
type ground struct {
	testing.TB
	ctx context.Context
	dir string // of temporary folders

	mu      sync.Mutex
	folders int
	undo    []func()
}

// groundError is what Fatal was called with.
type groundError struct{ error }

func (g *ground) Helper()                  {}
func (g *ground) Context() context.Context { return g.ctx }
func (g *ground) Fatal(args ...any)        { panic(groundError{errors.New(fmt.Sprint(args...))}) }

func (g *ground) Cleanup(undo func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.undo = append(g.undo, undo)
}

func (g *ground) TempDir() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.folders++
	dir := filepath.Join(g.dir, strconv.Itoa(g.folders))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		g.Fatal(err)
	}
	return dir
}

// close ends the servers and removes their files.
func (g *ground) close() error {
	for _, undo := range g.undo {
		undo()
	}
	g.undo = nil
	return os.RemoveAll(g.dir)
}
