package certs

import (
	"errors"
	"slices"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/myadm/myadm/config"
)

// CheckKubelet says what IssueKubelet would make: a kubelet.conf that names Settings.Endpoint, with a certificate that
// serves, for a node that has nothing else of the PKI. have holds the cluster's CA with its key, wherever they come from,
// and of the host kubelet.conf and what the kubelet renews by itself.
func CheckKubelet(have Files, s Settings, now time.Time) ([]Finding, error) {
	tasks, err := surveyKubelet(have, s, now)
	return findings(tasks), err
}

// IssueKubelet makes what CheckKubelet finds.
func IssueKubelet(have Files, s Settings, now time.Time) ([]File, error) {
	tasks, err := surveyKubelet(have, s, now)
	if err != nil {
		return nil, err
	}
	return issueAll(tasks, s.KeyAlgorithm)
}

func surveyKubelet(have Files, s Settings, now time.Time) ([]*task, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	v := &surveyor{have: have, settings: s, now: now, authorities: map[string]*authority{}}
	for _, c := range certificates {
		if c.name == rootCA {
			v.authority(c)
		}
	}
	i := slices.IndexFunc(kubeconfigs, func(k kubeconfig) bool { return k.path == config.KubeletConf })
	kubelet := kubeconfigs[i]
	kubelet.local = false // a worker has no API server of its own
	v.kubeconfig(kubelet)
	if len(v.errs) > 0 {
		return nil, errors.Join(v.errs...)
	}
	return v.tasks, nil
}

// PointAt returns a kubeconfig whose current context is at another server, with the same credentials. It reports false,
// and returns conf, when it is there already. server is a URL.
func PointAt(conf []byte, server string) (out []byte, changed bool, err error) {
	current, err := parseKubeconfig(conf)
	if err != nil {
		return nil, false, err
	}
	cluster, _ := inUse(current)
	switch {
	case cluster == nil:
		return nil, false, errors.New("the kubeconfig's current context is incomplete")
	case cluster.Server == server:
		return conf, false, nil
	}
	cluster.Server = server
	out, err = clientcmd.Write(*current)
	return out, err == nil, err
}
