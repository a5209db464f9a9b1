package manifests

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	corev1 "k8s.io/api/core/v1"
)

// KeepalivedConfigPath is where a control plane has keepalived's configuration.
const KeepalivedConfigPath = config.KeepalivedDir + "/keepalived.conf"

// Keepalived is what gives one of the control planes at a time the virtual IP: keepalived's configuration, then its static
// pod. Peers are the addresses of the other control planes. The one with the highest priority, from 1 to 254, has the
// address while it is there and its HAProxy runs.
//
// A changed configuration is for a keepalived that is started anew: another then has the address for a moment, and no
// connection goes through keepalived itself. On SIGHUP it would read it too, but not tell whether it has.
func Keepalived(p Params, n Node, peers []netip.Addr, priority int) ([]host.File, error) {
	nic := cmp.Or(p.Cluster.Spec.LoadBalancer.Interface, n.Interface)
	if nic == "" {
		return nil, fmt.Errorf("no network interface is known that has %s, to give it the virtual IP too; hint: set spec.loadBalancer.interface", n.AdvertiseAddress)
	}
	conf := host.File{Path: KeepalivedConfigPath, Mode: fileMode, Data: []byte(keepalivedConfig(p, n, nic, peers, priority))}
	pod := staticPod{
		name:  KeepalivedName,
		image: p.Images.Keepalived,
		// --vrrp: without it a child for IPVS would look for kernel modules.
		command: []string{"keepalived", "--dont-fork", "--log-console", "--vrrp", "--use-file=" + KeepalivedConfigPath,
			"--pid=/run/keepalived.pid", "--vrrp_pid=/run/vrrp.pid"},
		mounts: []config.HostPathMount{readOnly("config", config.KeepalivedDir, corev1.HostPathDirectory)},
	}.pod()
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "run", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	c := &pod.Spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "run", MountPath: "/run"})
	c.Ports = nil // VRRP is a protocol beside TCP and has none
	manifest, err := balancerFile(pod, &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		Capabilities: &corev1.Capabilities{
			Add:  []corev1.Capability{"NET_ADMIN", "NET_BROADCAST", "NET_RAW", "SETGID"}, // the last for the script's process
			Drop: []corev1.Capability{"ALL"},
		},
		ReadOnlyRootFilesystem: new(true),
		RunAsUser:              new(int64(0)),
	})
	return []host.File{conf, manifest}, err
}

// keepalivedConfig sends VRRP from address to address, since not every network carries multicast. What it asks of HAProxy
// is whether its health port listens, which the kernel's table of sockets says to a program as plain as grep. A node whose
// HAProxy does not run gives way to all where it does, and still comes before none at all: hence a weight and no fault.
func keepalivedConfig(p Params, n Node, nic string, peers []netip.Addr, priority int) string {
	bits := n.AdvertiseAddress.BitLen()
	unicast := ""
	if len(peers) > 0 {
		var list strings.Builder
		for _, peer := range peers {
			fmt.Fprintf(&list, "\t\t%s\n", peer)
		}
		unicast = fmt.Sprintf("\tunicast_src_ip %s\n\tunicast_peer {\n%s\t}\n", n.AdvertiseAddress, list.String())
	}
	balancer := p.Cluster.Spec.LoadBalancer
	return fmt.Sprintf(MarkComment+`the virtual IP of the API servers.
global_defs {
	enable_script_security
	script_user root
}

vrrp_script haproxy {
	script "/bin/grep -q :%04[1]X.00000000:0000.0A /proc/net/tcp"
	interval 1
	fall 2
	rise 1
	weight -100
	init_fail
}

vrrp_instance api {
	state BACKUP
	interface %[2]s
	virtual_router_id %[3]d
	priority %[4]d
	advert_int 1
%[5]s	virtual_ipaddress {
		%[6]s/%[7]d dev %[2]s
	}
	track_script {
		haproxy
	}
}
`, config.LoadBalancerHealthPort, nic, balancer.RouterID, priority, unicast, balancer.VirtualIP, bits)
}
