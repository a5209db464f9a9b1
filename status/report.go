// Package status looks at a living cluster and says how it is. Gather asks the API, etcd and every host that can be
// reached, each over its own connection, so that what one of them does not answer is told beside what the others say. What
// comes of it is a Report, which is plain data; Judge says what is wrong with it, and is pure.
package status

import "time"

// Report is a cluster as it was seen. Lists are never nil. What could not be asked is empty, and a Warning says so.
type Report struct {
	Name              string         `json:"name"`
	KubernetesVersion string         `json:"kubernetesVersion,omitempty"` // vX.Y.Z, as the cluster's own configuration says
	Time              time.Time      `json:"time"`
	Healthy           bool           `json:"healthy"` // there are no warnings
	Warnings          []Warning      `json:"warnings"`
	APIError          string         `json:"apiError,omitempty"` // why the API could not be asked; then nodes are the document's
	Endpoint          Endpoint       `json:"endpoint"`
	Nodes             []Node         `json:"nodes"`         // control planes first, each by name
	ControlPlanes     []ControlPlane `json:"controlPlanes"` // that were reached, in the document's order
	Etcd              Etcd           `json:"etcd"`
	Missing           []MissingHost  `json:"missingHosts"` // that were not reached, in the document's order
}

// Warning is something that is wrong, or is about to be.
type Warning struct {
	Object  string `json:"object"`  // as "node w-1", "control plane cp-2", "etcd"
	Message string `json:"message"` // one line
	Hint    string `json:"hint,omitempty"`
}

// Endpoint is where the API is reached, and from where it is.
type Endpoint struct {
	Address      string   `json:"address"`      // host:port for people and joining hosts
	NodeAddress  string   `json:"nodeAddress"`  // host:port for the nodes; with a node-local load balancer a loopback address
	LoadBalancer string   `json:"loadBalancer"` // node-local, keepalived, external or none
	Answers      []Answer `json:"answers"`      // at NodeAddress, of every host that was reached
}

// Answer tells whether an API server answers a host at the endpoint.
type Answer struct {
	Host  string `json:"host"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// Node is a node of the cluster, or a host of the document that is none.
type Node struct {
	Name           string   `json:"name"`
	Roles          []string `json:"roles"`      // control-plane, worker, or whatever node-role labels say
	Registered     bool     `json:"registered"` // it is a Node of the API; else only the document has it
	Ready          bool     `json:"ready"`
	Reason         string   `json:"reason,omitempty"` // why it is not Ready, as its kubelet or the node controller says
	Unschedulable  bool     `json:"unschedulable,omitempty"`
	KubeletVersion string   `json:"kubeletVersion,omitempty"`
	Runtime        string   `json:"containerRuntime,omitempty"` // as containerd://2.4.2
	Address        string   `json:"address,omitempty"`
	Reached        bool     `json:"reached"` // myadm has a connection to its host
}

// ControlPlane is what a control plane's host says of itself.
type ControlPlane struct {
	Name             string        `json:"name"`
	Components       []Component   `json:"components"`   // etcd, unless it is external, then those of Kubernetes
	Certificates     []Certificate `json:"certificates"` // and kubeconfigs, in kubeadm's order
	CertificateError string        `json:"certificateError,omitempty"`
}

// Component is a static pod of the control plane.
type Component struct {
	Name    string `json:"name"`              // as kube-apiserver
	Version string `json:"version,omitempty"` // the tag of its image
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason,omitempty"` // why it is not healthy
}

// Certificate is how long a certificate serves.
type Certificate struct {
	Name    string    `json:"name"` // as apiserver, admin.conf
	Path    string    `json:"path"` // on the host
	Expires time.Time `json:"expires"`
}

// Etcd is the store of all objects.
type Etcd struct {
	External       bool     `json:"external"` // somebody else runs it
	Error          string   `json:"error,omitempty"`
	Quorum         bool     `json:"quorum"`         // reads and writes work
	FaultTolerance int      `json:"faultTolerance"` // how many more voting members may fail before there is no quorum
	Members        []Member `json:"members"`        // by name, those without one at the end
}

// Member is a member of etcd.
type Member struct {
	Name        string   `json:"name,omitempty"` // empty until it has started for the first time
	ID          string   `json:"id"`             // in hex, as etcd's tools print it
	Role        string   `json:"role"`           // leader, member or learner
	Healthy     bool     `json:"healthy"`
	Health      string   `json:"health"` // in a few words
	Version     string   `json:"version,omitempty"`
	DBSize      int64    `json:"dbSize,omitempty"`      // bytes of the database's file
	DBSizeInUse int64    `json:"dbSizeInUse,omitempty"` // bytes of it that hold something
	Lag         *uint64  `json:"lag,omitempty"`         // entries behind what the leader knows to be agreed on; nil: unknown
	PeerURLs    []string `json:"peerURLs"`
	ClientURLs  []string `json:"clientURLs,omitempty"`
	Error       string   `json:"error,omitempty"` // why it gave no answer
}

// MissingHost is a host of the document that was not reached.
type MissingHost struct {
	Name         string `json:"name"` // or its address, if the document does not name it
	ControlPlane bool   `json:"controlPlane"`
	Error        string `json:"error"`
}

// Soonest is the certificate that ends first; false when there is none.
func (p ControlPlane) Soonest() (Certificate, bool) {
	if len(p.Certificates) == 0 {
		return Certificate{}, false
	}
	first := p.Certificates[0]
	for _, c := range p.Certificates[1:] {
		if c.Expires.Before(first.Expires) {
			first = c
		}
	}
	return first, true
}
