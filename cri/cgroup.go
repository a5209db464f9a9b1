package cri

import (
	"context"
	"encoding/json"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CgroupDriver is the runtime's driver, "systemd" or "cgroupfs". The kubelet takes over what a runtime tells by
// RuntimeConfig. containerd before 2.0 does not have that, the kubelet goes by its own configuration, and the two have to say
// the same: there the driver is that of containerd's own configuration. Empty: it is not known.
func (c *Client) CgroupDriver(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got, err := c.runtime.RuntimeConfig(ctx, &runtime.RuntimeConfigRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented:
		return c.configuredDriver(ctx)
	case err != nil:
		return "", c.failed("runtime configuration", err)
	case got.GetLinux() == nil:
		return "", nil
	}
	return strings.ToLower(got.GetLinux().GetCgroupDriver().String()), nil
}

// configuredDriver reads the driver from the configuration that containerd adds to its status.
func (c *Client) configuredDriver(ctx context.Context) (string, error) {
	got, err := c.runtime.Status(ctx, &runtime.StatusRequest{Verbose: true})
	if err != nil {
		return "", c.failed("status", err)
	}
	return driverOf([]byte(got.GetInfo()["config"])), nil
}

// driverOf is the driver of the runtime that containerd 1.6 and 1.7 run containers with unless told otherwise. Source: Config
// in pkg/cri/config of github.com/containerd/containerd at v1.7.
func driverOf(config []byte) string {
	var c struct {
		Containerd struct {
			DefaultRuntimeName string `json:"defaultRuntimeName"`
			Runtimes           map[string]struct {
				Type    string `json:"runtimeType"`
				Options struct{ SystemdCgroup bool }
			} `json:"runtimes"`
		} `json:"containerd"`
	}
	if json.Unmarshal(config, &c) != nil {
		return ""
	}
	used, ok := c.Containerd.Runtimes[c.Containerd.DefaultRuntimeName]
	switch {
	case !ok || used.Type != "io.containerd.runc.v2": // another has options of its own
		return ""
	case used.Options.SystemdCgroup:
		return "systemd"
	}
	return "cgroupfs"
}
