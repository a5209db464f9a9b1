package certs

import (
	"strings"
	"time"
)

// CheckKubelet says what IssueKubelet would make on a worker, which of all kubeconfigs has kubelet.conf alone: it points at
// Settings.Endpoint. have holds the host's kubelet.conf and config.KubeletClientCert, and the cluster's ca.crt and ca.key,
// lent by a control plane: the key never reaches a worker. Errors are those of Check.
func CheckKubelet(have Files, s Settings, now time.Time) ([]Finding, error) {
	tasks, err := surveyKubelet(have, s, now)
	return findings(tasks), err
}

// IssueKubelet makes what CheckKubelet finds: kubelet.conf, or nothing.
func IssueKubelet(have Files, s Settings, now time.Time) ([]File, error) {
	tasks, err := surveyKubelet(have, s, now)
	if err != nil {
		return nil, err
	}
	return issueAll(tasks, s.KeyAlgorithm)
}

// NodeName is the node whose kubelet a client certificate is for, a PEM file; empty when it is for nobody's.
func NodeName(certPEM []byte) string {
	chain, err := ParseCertificates(certPEM)
	if err != nil {
		return ""
	}
	name, ok := strings.CutPrefix(chain[0].Subject.CommonName, nodeUser)
	if !ok {
		return ""
	}
	return name
}

func surveyKubelet(have Files, s Settings, now time.Time) ([]*task, error) {
	s.First = false // a CA that is missing is not made for a worker
	v, err := newSurveyor(have, s, now)
	if err != nil {
		return nil, err
	}
	for _, c := range certificates {
		if c.name == rootCA {
			v.authority(c)
		}
	}
	worker := kubeletConf
	worker.local = false // there is no API server on the host
	v.kubeconfig(worker)
	return v.result()
}
