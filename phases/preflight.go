package phases

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// PreflightOptions are the user's word on preflight and what the caller knows of the way ahead.
type PreflightOptions struct {
	Ignore []string // names of findings that are to be warnings; "all" for every one
	Dial   []string // host:port of what every host must reach besides the control planes' SSH servers
	CA     []byte   // of the cluster that is joined; a host of another one is refused
}

// Preflight looks at the hosts before anything is changed. It reports everything at once and changes nothing; what
// myadm can set right itself (kernel modules, sysctls) is left to the phase kernel.
func Preflight(c *cluster.Cluster, nodes []*cluster.Node, opts PreflightOptions) workflow.Phase {
	var warned sync.Map // findings already told, so that a second Check does not repeat them
	return workflow.Phase{
		Name:  "preflight",
		Short: "check that the hosts can carry Kubernetes",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			findings, err := preflight(ctx, c, c.Node(r), opts)
			if err != nil {
				return nil, err
			}
			var refused PreflightError
			for _, f := range findings {
				if f.Fatal && !Ignored(f.Name, opts.Ignore) {
					refused.Findings = append(refused.Findings, f)
				} else if _, told := warned.LoadOrStore(r.Name()+f.Name, true); !told {
					workflow.Warn(ctx, fmt.Sprintf("[%s] %s", f.Name, f.Message))
				}
			}
			if len(refused.Findings) > 0 {
				return nil, &refused
			}
			return nil, nil
		},
	}
}

// survey is the state of a host that the checks judge.
type survey struct {
	node     *cluster.Node
	cluster  *cluster.Cluster
	ports    map[int]bool
	exists   map[string]bool
	swaps    []string
	freeKiB  map[string]int64 // by folder
	nodeName string           // that the host has in its cluster, by its kubelet's certificate; empty: none that is known
	otherCA  bool             // the host's kubelet trusts another CA than that of the cluster that it is to join
}

// port is one that must be free, unless what will listen there is already in place.
type port struct {
	number int
	owner  string // the file that tells that our own component listens
	roles  []config.Role
}

var ports = []port{
	{config.DefaultAPIServerPort, config.ManifestsDir + "/kube-apiserver.yaml", []config.Role{config.RoleControlPlane}},
	{config.EtcdClientPort, config.ManifestsDir + "/etcd.yaml", []config.Role{config.RoleControlPlane}},
	{config.EtcdPeerPort, config.ManifestsDir + "/etcd.yaml", []config.Role{config.RoleControlPlane}},
	{10257, config.ManifestsDir + "/kube-controller-manager.yaml", []config.Role{config.RoleControlPlane}},
	{10259, config.ManifestsDir + "/kube-scheduler.yaml", []config.Role{config.RoleControlPlane}},
	{10250, config.KubeletConfigFile, []config.Role{config.RoleControlPlane, config.RoleWorker}},
}

// What a host needs, from kubeadm's own preflight (two processors and 1700 MB for a control plane) and from what the
// images of a node take.
const (
	minCPUs       = 2
	minMemoryKiB  = 1700 * 1024
	minFreeKiB    = 2 << 20 // 2 GiB
	maxClockSkew  = 2 * time.Minute
	warnClockSkew = 5 * time.Second
	dialTimeout   = 5 * time.Second
)

// rules judge a host, in the order in which they are reported.
var rules = []func(s *survey) []Finding{
	func(s *survey) []Finding {
		return fatal(!s.node.Facts.Systemd, "SystemdRunning", "systemd is not PID 1; hint: myadm needs a host that systemd runs")
	},
	func(s *survey) []Finding {
		arch := s.node.Facts.Arch
		unknown := fatal(arch != "amd64" && arch != "arm64", "Arch", "the architecture is %s; hint: myadm knows amd64 and arm64", arch)
		if len(unknown) > 0 || s.cluster.Bundle == nil {
			return unknown
		}
		_, err := s.cluster.Bundle.Binary("kubelet", arch) // which every host gets
		return fatal(err != nil, "Bundle", "%v", err)
	},
	func(s *survey) []Finding {
		allowed, set := s.cluster.Config.Spec.Kubelet["failCgroupV1"].(bool)
		return fatal(!s.node.Facts.CgroupV2 && (!set || allowed), "Cgroups",
			"the host has cgroup v1, which the kubelet refuses; hint: boot with systemd.unified_cgroup_hierarchy=1, or set spec.kubelet.failCgroupV1: false")
	},
	func(s *survey) []Finding {
		problems := validation.IsDNS1123Subdomain(s.node.Spec.Name)
		return fatal(len(problems) > 0, "Hostname", "the node name %q is not valid: %s; hint: set name in the document, or rename the host", s.node.Spec.Name, strings.Join(problems, ", "))
	},
	func(s *survey) []Finding {
		renamed := s.nodeName != "" && s.nodeName != s.node.Spec.Name && !s.otherCA
		return fatal(renamed, "NodeName", "the host is the node %s of its cluster, and would be %s: a node keeps its name, which its certificate has; hint: give it name: %s in the document, or take the node out with myadm reset and in again",
			s.nodeName, s.node.Spec.Name, s.nodeName)
	},
	func(s *survey) []Finding {
		return fatal(s.node.Facts.MachineID == "", "MachineID", "/etc/machine-id is empty; hint: run systemd-machine-id-setup on the host")
	},
	func(s *survey) []Finding {
		fail, set := s.cluster.Config.Spec.Kubelet["failSwapOn"].(bool)
		return fatal(len(s.swaps) > 0 && (!set || fail), "Swap",
			"swap is on (%s); hint: swapoff -a and take it out of /etc/fstab, or set spec.kubelet.failSwapOn: false", strings.Join(s.swaps, ", "))
	},
	func(s *survey) []Finding {
		return fatal(s.controlPlane() && s.node.Facts.CPUs < minCPUs, "NumCPU", "the host has %d processors; a control plane needs %d", s.node.Facts.CPUs, minCPUs)
	},
	func(s *survey) []Finding {
		return fatal(s.controlPlane() && s.node.Facts.MemoryKiB < minMemoryKiB, "Mem", "the host has %d MiB of memory; a control plane needs %d", s.node.Facts.MemoryKiB/1024, minMemoryKiB/1024)
	},
	func(s *survey) []Finding {
		var all []Finding
		for _, dir := range surveyedDirs {
			free, known := s.freeKiB[dir]
			all = append(all, fatal(known && free < minFreeKiB, "Disk", "%s has %d MiB free; a node needs %d; hint: make room there", dir, free/1024, minFreeKiB/1024)...)
		}
		return all
	},
	func(s *survey) []Finding {
		skew := s.node.Facts.ClockSkew.Abs()
		f := fatal(skew > warnClockSkew, "ClockSkew", "the clock is off by %s; hint: run a time service (chrony, systemd-timesyncd)", skew.Round(time.Second))
		for i := range f {
			f[i].Fatal = skew > maxClockSkew
		}
		return f
	},
	func(s *survey) []Finding {
		var all []Finding
		for _, p := range ports {
			number := p.number
			if number == config.DefaultAPIServerPort && s.cluster.Config.Spec.APIServerPort != 0 {
				number = int(s.cluster.Config.Spec.APIServerPort)
			}
			if s.hasRole(p.roles) && s.ports[number] && !s.exists[p.owner] {
				all = append(all, Finding{"Port-" + strconv.Itoa(number), true, fmt.Sprintf("port %d is in use; hint: ss -ltnp 'sport = :%d' tells by what", number, number)})
			}
		}
		return all
	},
	func(s *survey) []Finding {
		spec := s.cluster.Config.Spec
		foreign := spec.Runtime.Type == config.RuntimeExisting
		return slices.Concat(
			warning(foreign && len(spec.Registries) > 0, "Registries",
				"the host's own container runtime is not told of spec.registries; hint: configure mirrors and credentials in it"),
			warning(foreign && spec.Proxy.Given(), "Proxy",
				"the host's own container runtime is not told of spec.proxy, only the kubelet is; hint: set HTTPS_PROXY and NO_PROXY in its unit"),
		)
	},
	leftovers,
}

// leftovers finds a host that is part of something else. What an interrupted run of myadm left is no leftover: the
// phases take it up.
func leftovers(s *survey) []Finding {
	const reset = "myadm reset cleans the host"
	var all []Finding
	add := func(found bool, message, hint string) {
		all = append(all, fatal(found, "Leftovers", "%s; hint: %s", message, hint)...)
	}
	if s.controlPlane() {
		add(s.exists[config.KubeletConf] && !s.exists[config.PKIDir+"/ca.key"],
			"the host is a worker of some cluster already ("+config.KubeletConf+" is there and the CA's key is not)", reset)
		add(s.exists[s.cluster.Config.Spec.Etcd.DataDir+"/member"] && !s.exists[config.PKIDir+"/etcd/ca.crt"],
			"there is an etcd's data in "+s.cluster.Config.Spec.Etcd.DataDir+", and no PKI that goes with it", reset)
	} else {
		add(s.exists[config.ManifestsDir+"/kube-apiserver.yaml"], "the host is a control plane already", "give it that role in the document, or "+reset)
	}
	add(s.otherCA, "the host is a node of another cluster already (the CA in "+config.PKIDir+"/ca.crt is another one)", reset)
	managed := s.cluster.Config.Spec.Runtime.Type != config.RuntimeExisting
	add(managed && s.exists[foreignContainerd] && !s.exists[manifestContainerdUnit],
		"a container runtime of somebody else's is installed ("+foreignContainerd+")", "set spec.runtime.type: existing to use it, or remove it")
	return all
}

const (
	foreignContainerd      = "/usr/bin/containerd"
	manifestContainerdUnit = "/etc/systemd/system/containerd.service"
)

func fatal(bad bool, name, format string, args ...any) []Finding {
	if !bad {
		return nil
	}
	return []Finding{{Name: name, Fatal: true, Message: fmt.Sprintf(format, args...)}}
}

func warning(bad bool, name, message string) []Finding {
	if !bad {
		return nil
	}
	return []Finding{{Name: name, Message: message}}
}

func (s *survey) controlPlane() bool { return s.node.Spec.HasRole(config.RoleControlPlane) }

func (s *survey) hasRole(roles []config.Role) bool {
	for _, r := range roles {
		if s.node.Spec.HasRole(r) {
			return true
		}
	}
	return false
}

// preflight surveys a host and what it reaches, and judges both.
func preflight(ctx context.Context, c *cluster.Cluster, n *cluster.Node, opts PreflightOptions) ([]Finding, error) {
	var reach []Finding
	var wg sync.WaitGroup
	var external, runtime, files []Finding
	var filesErr error
	wg.Go(func() { reach = unreachable(ctx, n, slices.Concat(opts.Dial, peers(c, n))) })
	wg.Go(func() { external = judgeExternalEtcd(ctx, c, n) })
	wg.Go(func() { runtime = judgeRuntime(ctx, c, n) })
	wg.Go(func() { files, filesErr = judgeFiles(ctx, c, n) })
	s, err := takeSurvey(ctx, n.Host, c.Config.Spec.Etcd.DataDir)
	wg.Wait()
	if err := cmp.Or(err, filesErr); err != nil {
		return nil, err
	}
	s.node, s.cluster = n, c
	if opts.CA != nil && s.exists[config.KubeletConf] {
		if s.otherCA, err = hasOtherCA(ctx, n, opts.CA); err != nil {
			return nil, err
		}
	}
	var all []Finding
	for _, rule := range rules {
		all = append(all, rule(s)...)
	}
	return slices.Concat(all, runtime, files, reach, external), nil
}

func hasOtherCA(ctx context.Context, r host.Reader, ca []byte) (bool, error) {
	have, err := r.ReadFile(ctx, config.PKIDir+"/ca.crt")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return !bytes.Equal(bytes.TrimSpace(have), bytes.TrimSpace(ca)), err
}

// peers are the SSH servers of the control planes, as other nodes see them: something that listens on every host.
func peers(c *cluster.Cluster, self *cluster.Node) []string {
	var addrs []string
	for _, n := range c.ControlPlanes() {
		if n == self || n.Spec.Address == "" { // without an address it is this machine, and need not have SSH
			continue
		}
		sshPort := n.Spec.SSH.Port
		if sshPort == 0 {
			sshPort = 22
		}
		addrs = append(addrs, net.JoinHostPort(n.Spec.AdvertiseAddress, strconv.Itoa(sshPort)))
	}
	return addrs
}

// unreachable tries every address from the host, all at once, and again for a while: the way to a host that has just been
// started may take a moment to be found.
func unreachable(ctx context.Context, n *cluster.Node, addrs []string) []Finding {
	findings := make([][]Finding, len(addrs))
	var wg sync.WaitGroup
	for i, addr := range addrs {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			err := poll(ctx, func(ctx context.Context) error {
				conn, err := n.Dial(ctx, "tcp", addr)
				switch {
				case err == nil:
					return conn.Close()
				case strings.Contains(err.Error(), "refused"): // nothing listens there yet, and the host itself said so: the way is open
					return nil
				}
				return err
			})
			if err != nil {
				findings[i] = fatal(true, "Reachable", "%s cannot be reached from the host: %v; hint: check routes and firewalls between the hosts", addr, err)
			}
		})
	}
	wg.Wait()
	var all []Finding
	for _, f := range findings {
		all = append(all, f...)
	}
	return all
}
