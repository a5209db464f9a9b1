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

	"github.com/myadm/myadm/e2e/lab"
	"github.com/myadm/myadm/host/ssh/sshdtest"
)

// farm is many hosts without machines: an SSH server for each of them, all in this process. What they run is real, a shell
// and an sftp-server for every session as at any sshd, in a mount namespace in which /etc and /run are folders of the host's
// own on disk. What is not real: the kernel, /proc and the network are this machine's, and there is no systemd.
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
			Own: []string{"/etc", "/run"}, // the latter has the lock
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
	type object = map[string]any
	var registries, hosts []object
	for _, name := range []string{"docker.io", "registry.k8s.io"} {
		registries = append(registries, object{"name": name, "mirrors": []string{"https://mirror.example/" + name}})
	}
	for i, s := range f.servers {
		role := lab.RoleWorker
		if i < farmControlPlanes {
			role = lab.RoleControlPlane
		}
		hosts = append(hosts, object{
			"name": fmt.Sprintf("h%d", i+1), "address": "127.0.0.1", "roles": []string{role},
			"advertiseAddress": fmt.Sprintf("192.0.2.%d", i+1),
			"ssh":              object{"user": "root", "port": s.Port(), "keyFile": s.Key, "hostKey": s.HostKey()},
		})
	}
	return yaml.Marshal(object{
		"apiVersion": "myadm.dev/v1alpha1", "kind": "Cluster", "metadata": object{"name": "farm"},
		"spec": object{
			"kubernetesVersion": lab.DefaultKubernetesVersion, "hosts": hosts,
			"registries": registries, "proxy": object{"httpProxy": "http://proxy.example:3128"},
		},
	})
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
