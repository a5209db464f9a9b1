package manifests

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// HAProxyConfigPath is where a host has the load balancer's configuration. Its folder is what the pod mounts: a mounted
// file would stay the old one when another takes its name.
const HAProxyConfigPath = config.HAProxyDir + "/haproxy.cfg"

// haproxyUser is nobody: HAProxy opens no port below 1024 and reads one file that all may read.
const haproxyUser = 65534

// HAProxy is the static pod of a load balancer in front of all API servers. Its manifest does not depend on the list of
// them: on SIGUSR2 the master process (-W) reads the configuration again, and leaves the connections that there are to
// the worker that has them.
func HAProxy(p Params) (host.File, error) {
	pod := staticPod{
		name:    HAProxyName,
		image:   p.Images.HAProxy,
		command: []string{"haproxy", "-W", "-db", "-f", HAProxyConfigPath},
		mounts:  []config.HostPathMount{readOnly("config", config.HAProxyDir, corev1.HostPathDirectory)},
		health:  health{host: "127.0.0.1", port: config.LoadBalancerHealthPort, scheme: corev1.URISchemeHTTP, live: "/healthz"},
	}.pod()
	live := pod.Spec.Containers[0].LivenessProbe // the control plane's patience is for programs that start slowly
	live.TimeoutSeconds, live.PeriodSeconds, live.FailureThreshold = 5, 5, 3
	return balancerFile(pod, &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		ReadOnlyRootFilesystem:   new(true),
		RunAsNonRoot:             new(true),
		RunAsUser:                new(int64(haproxyUser)),
		RunAsGroup:               new(int64(haproxyUser)),
	})
}

// balancerFile is a load balancer's pod. The tier keeps it out of what selects the control plane. Once told to end it does
// nothing useful any more, and its successor waits for its ports: hence the short grace. The UID follows the content alone:
// one that a kubelet makes up is another with each minor version of it, and a kubelet that is replaced would start the load
// balancer anew and cut all connections.
func balancerFile(pod *corev1.Pod, security *corev1.SecurityContext) (host.File, error) {
	pod.Labels["tier"] = "node"
	pod.Spec.TerminationGracePeriodSeconds = new(int64(1))
	c := &pod.Spec.Containers[0]
	c.SecurityContext = security
	c.Resources.Requests = corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("10m"),
		corev1.ResourceMemory: resource.MustParse("32Mi"),
	}
	plain, err := podFile(pod)
	if err != nil {
		return host.File{}, err
	}
	pod.UID = types.UID(fmt.Sprintf("%x", sha256.Sum256(plain.Data))[:32])
	return podFile(pod)
}

// HAProxyConfig is the load balancer's configuration, the same on all nodes. It balances connections and leaves TLS to
// their ends.
//
// A host that does not answer is found out in three seconds, and loses its connections at once, so that clients need not
// find out themselves: check (timeout connect, inter, fall) and shutdown-sessions. An API server that only says that it is
// not ready keeps them for eight: while etcd is slow all API servers say so after two seconds each, and who is cut off then
// loses what would soon have been answered, and finds nothing better elsewhere. After a reload the old worker checks no longer,
// and its dead connections end by TCP's own means (tcp-ut, which HAProxy 2.6 does not take from default-server, and
// srvtcpka).
//
// The servers are those that the document and the cluster named when the file was written. Those that come later are found
// by the name of a headless Service of the API servers, and serve when none of the list does: a node whose list has grown
// old does not lose the cluster. What was found once stays for as long as DNS is away.
func HAProxyConfig(p Params) host.File {
	version := fmt.Sprintf("%x", sha256.Sum256([]byte(haproxyConfig(p, ""))))
	return host.File{Path: HAProxyConfigPath, Mode: fileMode, Data: []byte(haproxyConfig(p, version))}
}

// loadedVersion is the line by which HAProxy tells the version of the configuration that it has loaded.
var loadedVersion = regexp.MustCompile(`(?m)^\s*http-request return .* string "([0-9a-f]+)" if \{ path /version \}$`)

// HAProxyVersion is what a HAProxy that has loaded the configuration answers to GET /version; empty if that is none of ours.
func HAProxyVersion(config []byte) string {
	m := loadedVersion.FindSubmatch(config)
	if m == nil {
		return ""
	}
	return string(m[1])
}

// The limits: fd-hard-limit, because without a limit HAProxy makes a table of as many files as the system would let it
// open, which can be a thousand million. mworker-max-reloads, because a worker whose connections never end would never end.
// maxconn, because the health port could not answer if the API's connections took all that is left.
//
// The check takes 401 and 403 for alive: without anonymous-auth nobody may read /readyz, and the answer alone says that
// the server is there. It does not verify the certificate, since nothing depends on it: clients verify for themselves.
// timeout check is longer than the two seconds that the API server gives etcd before it says that it is not ready.
func haproxyConfig(p Params, version string) string {
	bind, prefer := "0.0.0.0", "ipv4"
	if p.Cluster.APIServerServiceIP().Is6() {
		bind, prefer = "[::]", "ipv6"
	}
	var servers strings.Builder
	for _, s := range p.APIServers {
		fmt.Fprintf(&servers, "\tserver %s %s tcp-ut 5s\n", s.Name, s.Address)
	}
	return fmt.Sprintf(MarkComment+`the load balancer of the API servers.
global
	nbthread 2
	fd-hard-limit 20000
	mworker-max-reloads 10

defaults
	mode tcp
	timeout connect 500ms
	timeout check 3s
	timeout client 24h
	timeout server 24h
	timeout tunnel 24h
	option clitcpka
	option srvtcpka
	srvtcpka-idle 3s
	srvtcpka-intvl 1s
	srvtcpka-cnt 3
	retries 3
	option redispatch 1

resolvers cluster
	nameserver dns %[1]s
	accepted_payload_size 8192
	resolve_retries 3
	timeout resolve 10s
	timeout retry 2s
	hold obsolete 10m
	hold nx 24h
	hold refused 24h
	hold timeout 24h
	hold other 24h

frontend api
	maxconn 9000
	bind %[2]s:%[3]d
	default_backend api

backend api
	balance leastconn
	option allbackups
	option httpchk
	http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host kubernetes
	http-check expect status 200,401,403
	default-server check check-ssl verify none inter 1s fastinter 250ms fall 4 rise 1 on-marked-down shutdown-sessions
%[4]s	server-template dns- 9 %[5]s.%[6]s.svc.%[7]s:%[8]d resolvers cluster resolve-prefer %[9]s init-addr none backup inter 5s tcp-ut 5s

frontend health
	mode http
	bind 127.0.0.1:%[10]d
	timeout client 5s
	option httpclose
	http-request return status 200 content-type text/plain string "ok" if { path /healthz }
	http-request return status 200 content-type text/plain string "%[11]s" if { path /version }
	http-request deny deny_status 404
`,
		hostPort(p.Cluster.DNSServiceIP().String(), 53), bind, p.Cluster.Spec.LoadBalancer.Port, servers.String(),
		apiServersName, metav1.NamespaceSystem, p.Cluster.Spec.Networking.DNSDomain, p.Cluster.Spec.APIServerPort, prefer,
		config.LoadBalancerHealthPort, version)
}
