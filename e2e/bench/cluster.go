package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/myadm/myadm/e2e/lab"
)

// controlPlanes is how many of a whole cluster's hosts are such.
const controlPlanes = 3

// flannelFile is where the manifests of the pod network are on the first host.
const flannelFile = "/etc/flannel.json"

// prepareCluster brings everything to the hosts that is not to be measured, by way of a cluster that is then unmade, and
// takes the manifests of the pod network from it, so that both tools have the same.
func (b *bench) prepareCluster(ctx context.Context, r *report) ([]contender, error) {
	apply := func(ctx context.Context) (times, error) { return b.runMyadm(ctx, "apply", "--bundle", b.bundle) }
	for _, h := range b.lab.Hosts {
		if err := b.lab.Copy(ctx, h.Name, b.kubeadm, kubeadmPath); err != nil {
			return nil, err
		}
	}
	t, err := apply(ctx)
	if err != nil {
		return nil, err
	}
	r.add(bareCluster, nameMyadm, t)
	b.tell("%s: %.1f s", bareCluster, t.ready.Seconds())
	network, err := b.flannel(ctx)
	if err != nil {
		return nil, err
	}
	contenders := []contender{{name: nameMyadm, cluster: apply}}
	for _, atOnce := range []bool{false, true} {
		name := nameKubeadm + ", control planes one by one"
		if atOnce {
			name = nameKubeadm + ", all joins at once"
		}
		contenders = append(contenders, contender{name: name, cluster: func(ctx context.Context) (times, error) {
			return b.kubeadmCluster(ctx, network, atOnce)
		}})
	}
	return contenders, nil
}

// kubeadmCluster makes a cluster as kubeadm's users do who have a script for it: init on the first host, the pod network,
// then the joins of all others by parallel ssh, of control planes at once or one by one. There is no load balancer to wait
// for: the endpoint is the first control plane itself.
func (b *bench) kubeadmCluster(ctx context.Context, network []byte, atOnce bool) (times, error) {
	document, err := os.ReadFile(b.lab.Path(lab.ClusterFile))
	if err != nil {
		return times{}, err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return times{}, err
	}
	first, others, workers := b.lab.Hosts[0], b.lab.Hosts[1:controlPlanes], b.lab.Hosts[controlPlanes:]
	address := first.Address.String()
	o := kubeadmOptions{address: address, endpoint: net.JoinHostPort(address, "6443"), certificateKey: hex.EncodeToString(key)}
	rendered, err := renderKubeadm(document, o)
	if err != nil {
		return times{}, err
	}
	if err := errors.Join(b.put(ctx, first, kubeadmConfig, rendered), b.put(ctx, first, flannelFile, network)); err != nil {
		return times{}, err
	}
	ignore := []string{"--ignore-preflight-errors", ignored}
	start := time.Now()
	said, err := b.ssh(ctx, first.Name, slices.Concat([]string{"kubeadm", "init", "--upload-certs", "--config", kubeadmConfig}, ignore)...)
	if err != nil {
		return times{}, err
	}
	join, err := joinCommand(said, o.endpoint)
	if err != nil {
		return times{}, err
	}
	join = append(join, ignore...)
	server := slices.Concat(join, []string{"--control-plane", "--certificate-key", o.certificateKey})
	steps := []func() error{
		func() error {
			_, err := b.ssh(ctx, first.Name, slices.Concat(kubectl, []string{"apply", "-f", flannelFile})...)
			return err
		},
		func() error {
			return b.onAll(ctx, workers, func(ctx context.Context, h lab.Host) error {
				_, err := b.ssh(ctx, h.Name, join...)
				return err
			})
		},
		func() error {
			if atOnce {
				return b.onAll(ctx, others, func(ctx context.Context, h lab.Host) error {
					_, err := b.ssh(ctx, h.Name, server...)
					return err
				})
			}
			for _, h := range others {
				if _, err := b.ssh(ctx, h.Name, server...); err != nil {
					return err
				}
			}
			return nil
		},
	}
	if err := atTheSameTime(steps); err != nil {
		return times{}, err
	}
	t := times{end: time.Since(start)}
	err = b.awaitReady(ctx, b.lab.Hosts)
	t.ready = time.Since(start)
	return t, err
}

// atTheSameTime does all steps and returns all their errors.
func atTheSameTime(steps []func() error) error {
	errs := make([]error, len(steps))
	var all sync.WaitGroup
	for i, step := range steps {
		all.Go(func() { errs[i] = step() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// joinWords are what differs between join commands of kubeadm init: the token, and the hash of the CA.
var joinWords = regexp.MustCompile(`(--token|--discovery-token-ca-cert-hash) (\S+)`)

// joinCommand finds the command by which workers join in what kubeadm init has printed.
func joinCommand(said []line, endpoint string) ([]string, error) {
	found := map[string]string{}
	for _, l := range said {
		for _, m := range joinWords.FindAllStringSubmatch(l.text, -1) {
			found[m[1]] = m[2]
		}
	}
	command := []string{"kubeadm", "join", endpoint}
	for _, flag := range []string{"--token", "--discovery-token-ca-cert-hash"} {
		if found[flag] == "" {
			return nil, fmt.Errorf("kubeadm init printed no %s", flag)
		}
		command = append(command, flag, found[flag])
	}
	return command, nil
}

// flannel makes manifests of the pod network of the cluster that there is, for another one of the same hosts.
func (b *bench) flannel(ctx context.Context) ([]byte, error) {
	list, err := b.networkObjects(ctx)
	if err != nil {
		return nil, err
	}
	return asManifests(list, b.lab.Hosts[0].Address.String(), "6443")
}

// networkObjects reads the pod network from the cluster that there is, as a list in JSON.
func (b *bench) networkObjects(ctx context.Context) ([]byte, error) {
	list, err := b.lab.Output(ctx, b.lab.Hosts[0].Name, slices.Concat(kubectl, []string{
		"get", "-o", "json", "-n", "kube-flannel", "namespace/kube-flannel", "clusterrole/flannel", "clusterrolebinding/flannel",
		"serviceaccount/flannel", "configmap/kube-flannel-cfg", "daemonset/kube-flannel-ds",
	})...)
	return []byte(list), err
}

// asManifests makes of a list of living objects what somebody would apply to another cluster, whose API server is at this
// address: a node of that cluster has no load balancer of its own.
func asManifests(list []byte, host, port string) ([]byte, error) {
	var objects struct {
		APIVersion string           `json:"apiVersion"`
		Kind       string           `json:"kind"`
		Items      []map[string]any `json:"items"`
	}
	if err := json.Unmarshal(list, &objects); err != nil {
		return nil, fmt.Errorf("flannel's objects: %w", err)
	}
	for _, o := range objects.Items {
		delete(o, "status")
		metadata, _ := o["metadata"].(map[string]any)
		o["metadata"] = map[string]any{"name": metadata["name"], "namespace": metadata["namespace"], "labels": metadata["labels"]}
		setEnv(o, map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port})
	}
	var out bytes.Buffer
	err := json.NewEncoder(&out).Encode(objects)
	return out.Bytes(), err
}

// setEnv sets environment variables wherever an object has one of that name.
func setEnv(value any, env map[string]string) {
	switch value := value.(type) {
	case map[string]any:
		if name, ok := value["name"].(string); ok && env[name] != "" {
			value["value"] = env[name]
		}
		for _, v := range value {
			setEnv(v, env)
		}
	case []any:
		for _, v := range value {
			setEnv(v, env)
		}
	}
}
