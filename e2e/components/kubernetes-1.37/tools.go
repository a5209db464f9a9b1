//go:build tools

// Package components pins the Kubernetes commands of one minor version, so that go.mod and go.sum cover what
// `go build k8s.io/kubernetes/cmd/...` needs in this folder. Kubernetes replaces its staging modules by folders of its
// own tree, which go ignores for a dependency: go.mod repeats the replaces with the versions published for them.
package components

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubeadm"
	_ "k8s.io/kubernetes/cmd/kubectl"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
