package phases

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/manifests"
)

// balancer is the HAProxy of a machine. It goes by the configuration that it has loaded last, whatever the file says, and
// tells its version where HAProxy does.
type balancer struct {
	m *machine

	mu      sync.Mutex
	running bool
	loaded  []byte
	stuck   bool // it does not load what it is told to
	reloads int
}

// balance gives a machine an HAProxy that does not run yet.
func (m *machine) balance() {
	b := &balancer{m: m}
	m.balancer = b
	m.OnPrefix("sh", "-c", reloadScript, "sh", manifests.HAProxyConfigPath).Changes().Do(func(*hosttest.Fake, host.Cmd) ([]byte, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.reloads++
		if b.running && !b.stuck {
			b.load()
		}
		return nil, nil
	})
	m.On("sh", "-c", keepalivedScript, "sh", manifests.KeepalivedConfigPath).Return("hertz=100\nuptime=9.5\nnow=1800000000.5\n") // none runs
	m.OnDial(b.dial)
}

// start is what the kubelet does for HAProxy's static pod.
func (b *balancer) start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running = true
	b.load()
}

func (b *balancer) load() {
	file, _ := b.m.Get(manifests.HAProxyConfigPath)
	b.loaded = file.Data
}

// runsOld makes it one that runs by another version than the file's, because myadm was killed before it could tell it.
func (b *balancer) runsOld() {
	b.start()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.loaded = bytes.Replace(b.loaded, []byte(manifests.HAProxyVersion(b.loaded)), []byte("0a"), 1)
}

// dial serves one request, without a network: its waits end at once in a bubble of testing/synctest.
func (b *balancer) dial(_ context.Context, _, address string) (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.running || address != "127.0.0.1:6445" {
		return nil, errors.New("connection refused")
	}
	version := manifests.HAProxyVersion(b.loaded)
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		r, err := http.ReadRequest(bufio.NewReader(far))
		if err != nil {
			return
		}
		status := "200 OK"
		if r.URL.Path != "/version" {
			status = "404 Not Found"
		}
		fmt.Fprintf(far, "HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, len(version), version)
	}()
	return near, nil
}
