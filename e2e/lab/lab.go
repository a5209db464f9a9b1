// Package lab makes hosts to try myadm on: Docker containers that behave as machines. Each has systemd as PID 1, sshd, a
// root login, two users with sudo, an address that stays, and nothing of Kubernetes; it can be powered off and on and cut
// from its network. A lab is a set of such hosts on an internal network of their own.
//
// Beside the hosts there may be a mirror, which is the network that they lack (package mirror, StartMirror), and between
// them and the operator a link of a given rate and length (Link).
//
// A lab belongs to a folder. The folder holds what a user needs (the Cluster document, ssh_config, the key), and no
// state: containers and network carry the folder's identity as a label, so labs in two folders never meet, and a command
// that was killed is simply run again.
package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The labels of containers and networks.
const (
	labelLab     = "myadm.lab"         // id of the lab
	labelDir     = "myadm.lab.dir"     // its folder, for people who look at docker ps
	labelHost    = "myadm.lab.host"    // h1, h2, ...
	labelAddress = "myadm.lab.address" // IPv4 address, fixed
	labelRole    = "myadm.lab.role"    // control-plane or worker
	labelHostKey = "myadm.lab.hostkey" // public key of its sshd
)

// The roles of a host, as the Cluster document names them.
const (
	RoleControlPlane = "control-plane"
	RoleWorker       = "worker"
)

// The files of a lab's folder.
const (
	ClusterFile  = "cluster.yaml"  // Cluster document that names the hosts
	SSHConfig    = "ssh_config"    // for ssh -F
	KeyFile      = "id_ed25519"    // private key that every user of every host takes
	KnownHosts   = "known_hosts"   // the hosts' keys
	PasswordFile = "sudo_password" // what sudo asks ops-pw for
	MirrorDir    = "mirror"        // folder of the mirror, if one was started: log, ca.crt, Docker's config.json
)

// The users of a host. All log in with the lab's key.
const (
	UserRoot        = "root"
	UserSudo        = "ops"    // sudo without a password
	UserSudoWithPwd = "ops-pw" // sudo with the password in PasswordFile
)

// Lab is a lab that exists.
type Lab struct {
	Dir   string // absolute
	Hosts []Host // h1, h2, ... in this order

	id string
	d  docker
}

// Host is one machine of a lab.
type Host struct {
	Name    string // h1, h2, ...
	Address netip.Addr
	Role    string // RoleControlPlane or RoleWorker
	HostKey string // of sshd, as ssh-ed25519 AAAA...

	container string
	state     string // as Docker calls it: created, running, exited
}

// Open finds the lab of a folder. Docker has to run.
func Open(ctx context.Context, dir string) (*Lab, error) {
	d, err := dialEngine(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach Docker: %w; hint: lab up starts it", err)
	}
	l, err := load(ctx, d, dir)
	if err != nil {
		return nil, err
	}
	if len(l.Hosts) == 0 {
		return nil, fmt.Errorf("no lab in %s; hint: lab up --dir %s", l.Dir, dir)
	}
	return l, nil
}

// Host returns the host of that name.
func (l *Lab) Host(name string) (Host, error) {
	i := slices.IndexFunc(l.Hosts, func(h Host) bool { return h.Name == name })
	if i < 0 {
		return Host{}, fmt.Errorf("no host %q in %s; there are h1 to h%d", name, l.Dir, len(l.Hosts))
	}
	return l.Hosts[i], nil
}

// Path is the path of one of the lab's files.
func (l *Lab) Path(name string) string { return filepath.Join(l.Dir, name) }

// Password is what sudo asks ops-pw for.
func (l *Lab) Password() (string, error) {
	data, err := os.ReadFile(l.Path(PasswordFile))
	return strings.TrimSpace(string(data)), err
}

// load reads a lab, which may have no hosts, from the labels of its containers.
func load(ctx context.Context, d docker, dir string) (*Lab, error) {
	dir, err := canonical(dir)
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir, id: labID(dir), d: d}
	record := fmt.Sprintf(`{"Name":"{{.Label %q}}","Address":"{{.Label %q}}","Role":"{{.Label %q}}","HostKey":"{{.Label %q}}",`+
		`"Container":"{{.Names}}","State":"{{.State}}"}`, labelHost, labelAddress, labelRole, labelHostKey)
	records, err := d.lines(ctx, "ps", "--all", "--no-trunc", "--filter", l.filter(), "--format", record)
	if err != nil {
		return nil, err
	}
	for _, record := range records {
		var c struct {
			Name, Role, HostKey, Container, State string
			Address                               netip.Addr
		}
		if err := json.Unmarshal([]byte(record), &c); err != nil {
			return nil, fmt.Errorf("docker ps: %w in %s", err, record)
		}
		l.Hosts = append(l.Hosts, Host{
			Name: c.Name, Address: c.Address, Role: c.Role, HostKey: c.HostKey, container: c.Container, state: c.State,
		})
	}
	slices.SortFunc(l.Hosts, func(a, b Host) int { return a.Address.Compare(b.Address) })
	return l, nil
}

// filter selects what belongs to this lab.
func (l *Lab) filter() string { return "label=" + labelLab + "=" + l.id }

// network is the name of the lab's network; its bridge on the machine has the same. 12 characters: an interface name
// has at most 15.
func (l *Lab) network() string { return "lab-" + l.id }

// canonical is the one absolute path of a folder, which need not exist.
func canonical(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(dir, "\"\n\r") {
		return "", fmt.Errorf("folder %q: ssh_config cannot name it; hint: choose one without quotes and line breaks", dir)
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real, nil
	}
	// The part that exists decides, or the id would change once the folder is made.
	parent := filepath.Dir(dir)
	if parent == dir {
		return dir, nil
	}
	parent, err = canonical(parent)
	return filepath.Join(parent, filepath.Base(dir)), err
}

// labID identifies the lab of a canonical folder: 8 hexadecimal digits.
func labID(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:4])
}

func orDiscard(log io.Writer) io.Writer {
	if log == nil {
		return io.Discard
	}
	return log
}
