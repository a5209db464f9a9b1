package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"k8s.io/klog/v2"
)

// options are upstream's flags, under upstream's names, of what this build can do.
type options struct {
	kubeAPIURL, kubeconfig, annotationPrefix string
	netConf, subnetFile                      string
	ifaces, ifaceRegexes                     list
	ifaceCanReach, publicIP, publicIPv6      string
	ipMasq, masqNoRandom, forwardRules       bool
	resync                                   time.Duration
	setNodeCondition                         bool
	healthzIP                                string
	healthzPort                              int
	version                                  bool
}

// list is a flag that may be repeated.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

func parseOptions(args []string) (options, error) {
	var o options
	var kubeSubnetMgr bool
	var resyncSeconds int
	fs := flag.NewFlagSet("flanneld", flag.ContinueOnError)
	fs.BoolVar(&kubeSubnetMgr, "kube-subnet-mgr", false, "take the subnet from the Kubernetes API; required, the only manager there is")
	fs.StringVar(&o.kubeAPIURL, "kube-api-url", "", "URL of the API server; empty inside a pod")
	fs.StringVar(&o.kubeconfig, "kubeconfig-file", "", "kubeconfig; empty inside a pod")
	fs.StringVar(&o.annotationPrefix, "kube-annotation-prefix", "flannel.alpha.coreos.com", "prefix of the node annotations")
	fs.StringVar(&o.netConf, "net-config-path", "/etc/kube-flannel/net-conf.json", "network configuration")
	fs.StringVar(&o.subnetFile, "subnet-file", "/run/flannel/subnet.env", "file written for the CNI plugin")
	fs.Var(&o.ifaces, "iface", "interface (name or IP) to the other nodes; repeatable, the first that exists is taken")
	fs.Var(&o.ifaceRegexes, "iface-regex", "expression for the name or IP of that interface; repeatable, after --iface")
	fs.StringVar(&o.ifaceCanReach, "iface-can-reach", "", "take the interface that routes to this IP")
	fs.StringVar(&o.publicIP, "public-ip", "", "IPv4 address that other nodes send to")
	fs.StringVar(&o.publicIPv6, "public-ipv6", "", "IPv6 address that other nodes send to")
	fs.BoolVar(&o.ipMasq, "ip-masq", false, "masquerade traffic that leaves the pod network")
	fs.BoolVar(&o.masqNoRandom, "ip-masq-fully-random-disable", false, "masquerade without random ports")
	fs.BoolVar(&o.forwardRules, "iptables-forward-rules", true, "accept forwarded pod traffic")
	fs.IntVar(&resyncSeconds, "iptables-resync", 5, "seconds between checks of the rules")
	fs.BoolVar(&o.setNodeCondition, "set-node-network-unavailable", true, "clear the node's NetworkUnavailable condition when ready")
	fs.StringVar(&o.healthzIP, "healthz-ip", "0.0.0.0", "address of the health endpoint")
	fs.IntVar(&o.healthzPort, "healthz-port", 0, "port of the health endpoint; 0 for none")
	fs.BoolVar(&o.version, "version", false, "print the version")
	logging := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(logging)
	fs.Var(logging.Lookup("v").Value, "v", "log level")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	switch {
	case o.version:
	case fs.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case !kubeSubnetMgr:
		return o, errors.New("this build has no etcd subnet manager; hint: add --kube-subnet-mgr")
	case resyncSeconds <= 0:
		return o, fmt.Errorf("--iptables-resync %d is not positive", resyncSeconds)
	}
	o.resync = time.Duration(resyncSeconds) * time.Second
	return o, nil
}
