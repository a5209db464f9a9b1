//go:build tools

// Package components pins etcd's server and its two tools. etcdctl and etcdutl are main packages at the root of their
// modules, so they are built by module path: `go build go.etcd.io/etcd/server/v3`.
package components

import (
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
