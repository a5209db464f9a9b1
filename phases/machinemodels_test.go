package phases

import (
	"archive/tar"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/manifests"
)

// kernel is the modules that are loaded and the settings in force. Those of bridges need br_netfilter.
type kernel struct {
	mu       sync.Mutex
	modules  map[string]bool
	settings map[string]string
}

func (k *kernel) install(f *hosttest.Fake) {
	k.modules, k.settings = map[string]bool{}, map[string]string{"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0"}
	f.OnPrefix("modprobe").Changes().Do(func(_ *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.modules[cmd.Argv[1]] = true
		if cmd.Argv[1] == "br_netfilter" {
			k.settings["net.bridge.bridge-nf-call-iptables"] = "0"
			k.settings["net.bridge.bridge-nf-call-ip6tables"] = "0"
		}
		return nil, nil
	})
	f.OnPrefix("sysctl", "-w").Changes().Do(func(_ *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		name, value, _ := strings.Cut(cmd.Argv[2], "=")
		if _, ok := k.settings[name]; !ok {
			return nil, &host.ExitError{Argv: cmd.Argv, Code: 255, Stderr: []byte("sysctl: cannot stat /proc/sys/" + name)}
		}
		k.settings[name] = value
		return nil, nil
	})
}

// answer registers kernelScript, which depends on the cluster.
func (k *kernel) answer(f *hosttest.Fake, p manifests.Params) {
	f.On("sh", "-c", kernelScript(p)).Do(func(*hosttest.Fake, host.Cmd) ([]byte, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		var b strings.Builder
		for _, m := range slices.Sorted(maps.Keys(k.modules)) {
			fmt.Fprintln(&b, "module="+m)
		}
		for _, s := range manifests.Sysctls(p) {
			fmt.Fprintf(&b, "sysctl=%s %s\n", s.Name, k.settings[s.Name])
		}
		return []byte(b.String()), nil
	})
}

// containerd is what ctr tells of and does to it, while its unit runs.
type containerd struct {
	mu         sync.Mutex
	images     map[string]string // name to digest
	containers []string
	taskless   []string          // containers without a task
	rules      map[string]string // packet filter tools to what they save
	nftTables  string            // what `nft list tables` prints
}

func (c *containerd) install(m *machine) {
	c.rules = map[string]string{}
	ctr := func(changes bool, do func(cmd host.Cmd) ([]byte, error), argv ...string) {
		r := m.OnPrefix(append([]string{"ctr", "--namespace", "k8s.io"}, argv...)...).Do(func(_ *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
			if !m.units.Active("containerd") {
				return nil, &host.ExitError{Argv: cmd.Argv, Code: 1, Stderr: []byte("ctr: failed to dial \"/run/containerd/containerd.sock\"")}
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			return do(cmd)
		})
		if changes {
			r.Changes()
		}
	}
	ctr(false, c.listImages, "images", "ls")
	ctr(true, c.importImage, "images", "import", "-")
	ctr(false, func(host.Cmd) ([]byte, error) { return lines(c.containers), nil }, "containers", "ls", "-q")
	ctr(true, c.removeTask, "tasks", "rm", "--force")
	ctr(true, c.removeContainer, "containers", "rm")
	ctr(false, m.runInProxy, "run", "--rm", "--net-host")
}

// locked is one of containerd's commands, for a rule of a test's own.
func (c *containerd) locked(do func(host.Cmd) ([]byte, error)) func(*hosttest.Fake, host.Cmd) ([]byte, error) {
	return func(_ *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return do(cmd)
	}
}

func lines(list []string) []byte {
	var b strings.Builder
	for _, l := range list {
		fmt.Fprintln(&b, l)
	}
	return []byte(b.String())
}

// listImages is `ctr images ls [-q]`.
func (c *containerd) listImages(cmd host.Cmd) ([]byte, error) {
	names := slices.Sorted(maps.Keys(c.images))
	if cmd.Argv[len(cmd.Argv)-1] == "-q" {
		return lines(names), nil
	}
	b := strings.Builder{}
	b.WriteString("REF                          TYPE                                                 DIGEST    SIZE      PLATFORMS   LABELS\n")
	for _, name := range names {
		fmt.Fprintf(&b, "%s application/vnd.oci.image.manifest.v1+json %s 1.2 MiB linux/amd64 io.cri-containerd.image=managed\n", name, c.images[name])
	}
	return []byte(b.String()), nil
}

// importImage reads an OCI image layout, as `ctr images import -` does.
func (c *containerd) importImage(cmd host.Cmd) ([]byte, error) {
	var index v1.IndexManifest
	there := map[string]bool{}
	for r := tar.NewReader(cmd.Stdin); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && header.Name == "index.json" {
			err = json.NewDecoder(r).Decode(&index)
		}
		if err != nil {
			return nil, &host.ExitError{Argv: cmd.Argv, Code: 1, Stderr: fmt.Appendf(nil, "ctr: unrecognized image format: %v", err)}
		}
		there[header.Name] = true
	}
	for _, d := range index.Manifests {
		if !there["blobs/sha256/"+d.Digest.Hex] {
			return nil, &host.ExitError{Argv: cmd.Argv, Code: 1, Stderr: fmt.Appendf(nil, "ctr: content digest %s: not found", d.Digest)}
		}
		c.images[d.Annotations["io.containerd.image.name"]] = d.Digest.String()
	}
	return nil, nil
}

func (c *containerd) removeTask(cmd host.Cmd) ([]byte, error) {
	id := cmd.Argv[len(cmd.Argv)-1]
	if slices.Contains(c.taskless, id) {
		return nil, &host.ExitError{Argv: cmd.Argv, Code: 1, Stderr: []byte("ctr: no running task found: task " + id + " not found")}
	}
	c.taskless = append(c.taskless, id)
	return nil, nil
}

func (c *containerd) removeContainer(cmd host.Cmd) ([]byte, error) {
	id := cmd.Argv[len(cmd.Argv)-1]
	if !slices.Contains(c.taskless, id) {
		return nil, &host.ExitError{Argv: cmd.Argv, Code: 1, Stderr: []byte("ctr: cannot delete a non stopped container")}
	}
	c.containers = slices.DeleteFunc(c.containers, func(s string) bool { return s == id })
	return nil, nil
}

// runInProxy is a command of kube-proxy's image in the host's network.
func (m *machine) runInProxy(cmd host.Cmd) ([]byte, error) {
	c := &m.containerd
	at := slices.IndexFunc(cmd.Argv, func(s string) bool { return strings.Contains(s, "/kube-proxy:") })
	if at < 0 || c.images[cmd.Argv[at]] == "" {
		return nil, &host.ExitError{Argv: cmd.Argv, Code: 1, Stderr: []byte("ctr: image not found")}
	}
	argv := cmd.Argv[at+2:] // the image and the container's name come first
	tool, save := strings.CutSuffix(argv[0], "-save")
	switch {
	case save:
		return []byte(c.rules[tool]), nil
	case argv[0] == "nft" && argv[1] == "list":
		return []byte(c.nftTables), nil
	case argv[0] == "nft" && argv[1] == "delete":
		c.nftTables = strings.ReplaceAll(c.nftTables, "table "+strings.Join(argv[3:], " ")+"\n", "")
		return nil, nil
	}
	tool, _ = strings.CutSuffix(argv[0], "-restore")
	rules, ok := m.Get(argv[1])
	if !ok {
		return nil, &host.ExitError{Argv: cmd.Argv, Code: 1, Stderr: []byte("Can't open " + argv[1])}
	}
	c.rules[tool] = string(rules.Data)
	return nil, nil
}

// surveyed is what surveyScript finds besides files.
type surveyed struct {
	ports   []int
	swaps   []string
	freeKiB int64
	raw     string // lines to add
}

func (s *surveyed) install(f *hosttest.Fake) {
	f.OnPrefix("sh", "-c", surveyScript, "sh").Do(func(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		var b strings.Builder
		for _, p := range s.ports {
			fmt.Fprintf(&b, "port=%04X\n", p)
		}
		for _, name := range s.swaps {
			fmt.Fprintln(&b, "swap="+name)
		}
		fmt.Fprintf(&b, "free=/var/lib %d\n", s.freeKiB)
		credentials, _ := f.Get(cmd.Argv[4])
		if certificate, _ := pem.Decode(credentials.Data); certificate != nil {
			for line := range strings.Lines(string(pem.EncodeToMemory(certificate))) {
				fmt.Fprint(&b, "certificate="+line)
			}
		}
		infos, err := f.Stat(context.Background(), cmd.Argv[5:]...)
		for _, info := range infos {
			if info.Exists {
				fmt.Fprintln(&b, "exists="+info.Path)
			}
		}
		return []byte(b.String() + s.raw), err
	})
}
