package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// DefaultKubernetesVersion is what a lab's Cluster document asks for.
const DefaultKubernetesVersion = "v1.37.2"

// Options say what Up makes. Only Dir is needed.
type Options struct {
	Dir               string            // the lab's folder, made if missing
	Hosts             int               // 1 to 200, default 1
	ControlPlanes     int               // the first so many hosts are control planes, default 1
	KubernetesVersion string            // for the Cluster document, default DefaultKubernetesVersion
	User              string            // for the Cluster document: UserRoot (default), UserSudo or UserSudoWithPwd
	HostUsers         map[string]string // the same for single hosts, by name
	CacheDir          string            // default CacheDir()
	Log               io.Writer         // progress for people, default none
}

// complete fills in defaults and refuses what makes no sense.
func (o Options) complete() (Options, error) {
	o.Log = orDiscard(o.Log)
	o.Hosts = max(o.Hosts, 1)
	o.ControlPlanes = max(o.ControlPlanes, 1)
	if o.KubernetesVersion == "" {
		o.KubernetesVersion = DefaultKubernetesVersion
	}
	if o.User == "" {
		o.User = UserRoot
	}
	if o.Dir == "" {
		return o, errors.New("no folder; hint: --dir DIR")
	}
	if o.Hosts > maxHosts {
		return o, fmt.Errorf("%d hosts; a lab has at most %d", o.Hosts, maxHosts)
	}
	if o.ControlPlanes > o.Hosts {
		return o, fmt.Errorf("%d control planes of %d hosts", o.ControlPlanes, o.Hosts)
	}
	for host, user := range o.HostUsers {
		if n, err := strconv.Atoi(strings.TrimPrefix(host, "h")); err != nil || n < 1 || n > o.Hosts || host != hostName(n-1) {
			return o, fmt.Errorf("no host %q; there are h1 to h%d", host, o.Hosts)
		}
		if !knownUser(user) {
			return o, fmt.Errorf("host %s: no user %q; there are %s, %s and %s", host, user, UserRoot, UserSudo, UserSudoWithPwd)
		}
	}
	if !knownUser(o.User) {
		return o, fmt.Errorf("no user %q; there are %s, %s and %s", o.User, UserRoot, UserSudo, UserSudoWithPwd)
	}
	if o.CacheDir == "" {
		var err error
		if o.CacheDir, err = CacheDir(); err != nil {
			return o, err
		}
	}
	return o, nil
}

func knownUser(name string) bool {
	return name == UserRoot || name == UserSudo || name == UserSudoWithPwd
}

// CacheDir is where host images are made and bundles are kept: the folder in MYADM_LAB_CACHE, or else myadm-lab in the
// user's cache folder. It exists.
func CacheDir() (string, error) {
	dir := os.Getenv("MYADM_LAB_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil { // no HOME, as in some CI
			base = "/var/cache"
		}
		dir = filepath.Join(base, "myadm-lab")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// Up makes the lab of a folder, or completes it, and returns once every host takes logins. Hosts that exist keep what is
// on them; those that are off are started.
func Up(ctx context.Context, o Options) (*Lab, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	// Two runs for one folder take turns, and so do two that would both install Docker or make the image.
	unlockLab, err := lock(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	defer unlockLab()
	d, image, err := prepareMachine(ctx, o)
	if err != nil {
		return nil, err
	}
	l, err := load(ctx, d, o.Dir)
	if err != nil {
		return nil, err
	}
	if len(l.Hosts) > o.Hosts {
		return nil, fmt.Errorf("%s has %d hosts, not %d; hint: lab down --dir %s first", l.Dir, len(l.Hosts), o.Hosts, l.Dir)
	}
	id, err := l.ensureIdentity()
	if err != nil {
		return nil, err
	}
	if err := l.ensureHosts(ctx, o, image); err != nil {
		return nil, err
	}
	began := time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	for _, h := range l.Hosts {
		group.Go(func() error { return l.admit(groupCtx, h, id) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	fmt.Fprintf(o.Log, "%d hosts take logins after %.1f s\n", len(l.Hosts), time.Since(began).Seconds())
	return l, l.writeFiles(ctx, o)
}

// prepareMachine sees to Docker, the kernel and the host image.
func prepareMachine(ctx context.Context, o Options) (docker, string, error) {
	unlock, err := lock(ctx, o.CacheDir)
	if err != nil {
		return docker{}, "", err
	}
	defer unlock()
	d, err := openEngine(ctx, o.CacheDir, true, o.Log)
	if err != nil {
		return docker{}, "", err
	}
	prepareKernel(ctx, o.Log)
	image, err := ensureImage(ctx, d, o.CacheDir, o.Log)
	return d, image, err
}

// ensureHosts makes the containers that are missing and does not start them.
func (l *Lab) ensureHosts(ctx context.Context, o Options, image string) error {
	subnet, err := l.ensureNetwork(ctx)
	if err != nil {
		return err
	}
	flags, err := machineFlags(subnet)
	if err != nil {
		return err
	}
	have := map[netip.Addr]Host{}
	for _, h := range l.Hosts {
		have[h.Address] = h
	}
	l.Hosts = make([]Host, o.Hosts)
	group, ctx := errgroup.WithContext(ctx)
	for i := range l.Hosts {
		h := &l.Hosts[i]
		*h = have[hostAddress(subnet, i)]
		if h.state == "" || h.state == "created" {
			group.Go(func() error {
				// What never ran may lack what makes it a machine of its own.
				if h.state == "created" {
					if _, err := l.d.run(ctx, nil, "rm", "--force", "--volumes", h.container); err != nil {
						return err
					}
				}
				*h = Host{Name: hostName(i), Address: hostAddress(subnet, i), Role: o.role(i), container: l.network() + "-" + hostName(i)}
				key, err := newKey("root@" + h.Name)
				if err != nil {
					return err
				}
				return l.createHost(ctx, h, flags, image, key)
			})
			continue
		}
		// The role is the document's alone: the host does not know it.
		h.Role = o.role(i)
	}
	return group.Wait()
}

// role is the role of host i, counted from 0.
func (o Options) role(i int) string {
	if i < o.ControlPlanes {
		return RoleControlPlane
	}
	return RoleWorker
}

// createHost makes one container and gives it what no other host has, with sshd's private key.
func (l *Lab) createHost(ctx context.Context, h *Host, flags []string, image string, key []byte) error {
	files, hostKey, err := newMachine(key)
	if err != nil {
		return err
	}
	h.HostKey = hostKey
	args := []string{"create", "--name", h.container, "--hostname", h.Name, "--network", l.network(), "--ip", h.Address.String()}
	for _, label := range [][2]string{
		{labelLab, l.id}, {labelDir, l.Dir}, {labelHost, h.Name},
		{labelAddress, h.Address.String()}, {labelRole, h.Role}, {labelHostKey, h.HostKey},
	} {
		args = append(args, "--label", label[0]+"="+label[1])
	}
	if _, err := l.d.run(ctx, nil, append(append(args, flags...), image)...); err != nil {
		return err
	}
	return l.deliver(ctx, *h, files)
}

// admit brings a host, on or off, to where it takes the lab's logins.
func (l *Lab) admit(ctx context.Context, h Host, id identity) error {
	if err := l.deliver(ctx, h, l.userFiles(id)); err != nil {
		return err
	}
	if running, err := l.running(ctx, h); err != nil {
		return err
	} else if running { // else the host settles as it boots
		if _, err := l.Output(ctx, h.Name, "/usr/lib/lab/settle"); err != nil {
			return err
		}
	}
	return l.Start(ctx, h.Name)
}

// machineFlags are the docker create flags that make a container a machine. The folders that Kubernetes fills are
// volumes: overlayfs, which containerd uses there, cannot lie on the container's own overlayfs.
func machineFlags(subnet netip.Prefix) ([]string, error) {
	flags, err := privilegeFlags()
	if err != nil {
		return nil, err
	}
	flags = append(flags,
		"--cgroupns=private",
		"--tmpfs=/run", "--tmpfs=/tmp:exec",
		"--volume=/var/lib/containerd", "--volume=/var/lib/etcd", "--volume=/var/lib/kubelet",
		"--stop-signal=SIGRTMIN+3", // systemd's for a clean power off
		"--sysctl=net.ipv6.conf.all.disable_ipv6=0",
		"--env=container=docker", "--env=LAB_GATEWAY="+gateway(subnet).String(),
		"--tty", // systemd's console
	)
	// modprobe on a host finds what the machine could load.
	if exists("/lib/modules") {
		flags = append(flags, "--volume=/lib/modules:/lib/modules:ro")
	}
	return flags, nil
}
