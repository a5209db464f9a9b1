// Command flannel is the CNI plugin of the flannel network: it reads what flanneld wrote about this node and delegates to
// the bridge plugin with host-local addresses from the node's subnet.
//
// It takes upstream's configuration (subnetFile, dataDir, delegate). One thing differs: while flanneld has not written its
// file yet, ADD waits for it. Failing at once would make the kubelet back off, and a new node's first pods would start
// many seconds after the network is ready.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// The kubelet gives up on making a pod sandbox after two minutes (runtimeRequestTimeout); this leaves it room to retry.
const subnetFileTimeout = 20 * time.Second

// errNotAvailable is the CNI specification's code for "cannot service ADD requests"; the library does not name it.
const errNotAvailable = 50

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: del, Check: check, Status: status}, version.All,
		"flannel: delegates to bridge with the subnet that flanneld took for this node")
}

func add(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), subnetFileTimeout)
	defer cancel()
	env, err := waitSubnet(ctx, conf.SubnetFile)
	if err != nil {
		return err
	}
	delegate, err := conf.delegate(env)
	if err != nil {
		return err
	}
	// DEL runs with what ADD was given, even after a reboot has emptied /run or flanneld got another subnet.
	if err := conf.save(args, delegate); err != nil {
		return err
	}
	result, err := invoke.DelegateAdd(context.Background(), conf.delegateType(), delegate, nil)
	if err != nil {
		return fmt.Errorf("delegate to %s: %w", conf.delegateType(), err)
	}
	return result.Print()
}

// del succeeds when there is nothing left to delete, as the CNI specification asks: the runtime calls it again after
// a failure and for sandboxes that never got a network.
func del(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	path := conf.statePath(args)
	delegate, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := invoke.DelegateDel(context.Background(), conf.delegateType(), delegate, nil); err != nil {
		return fmt.Errorf("delegate to %s: %w", conf.delegateType(), err)
	}
	return os.Remove(path)
}

func check(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	saved, err := os.ReadFile(conf.statePath(args))
	if err != nil {
		return fmt.Errorf("configuration that ADD saved: %w", err)
	}
	delegate := map[string]any{}
	if err := json.Unmarshal(saved, &delegate); err != nil {
		return fmt.Errorf("%s: %w", conf.statePath(args), err)
	}
	delegate["prevResult"] = conf.PrevResult
	data, err := json.Marshal(delegate)
	if err != nil {
		return err
	}
	return invoke.DelegateCheck(context.Background(), conf.delegateType(), data, nil)
}

// status tells a runtime that asks (CNI 1.1) that pods can get a network once flanneld has written its file.
func status(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	if _, err := readSubnet(conf.SubnetFile); err != nil {
		return types.NewError(errNotAvailable, "flanneld has not set up this node yet", err.Error())
	}
	return nil
}

// statePath is unique per attachment; skel has checked both parts to be plain names.
func (c *config) statePath(args *skel.CmdArgs) string {
	return filepath.Join(c.DataDir, args.ContainerID+"-"+args.IfName)
}

func (c *config) save(args *skel.CmdArgs, delegate []byte) error {
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return err
	}
	path := c.statePath(args)
	if err := os.WriteFile(path+".new", delegate, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
