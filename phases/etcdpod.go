package phases

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
)

// etcdPodSpec is what a static pod of etcd says of its member.
type etcdPodSpec struct {
	image    string
	name     string
	peerURLs string // comma-separated
	dataDir  string
}

// readEtcdPod reads the static pod of etcd, whoever wrote it.
func readEtcdPod(manifest []byte) (etcdPodSpec, error) {
	file := manifests.StaticPodPath(manifests.EtcdName)
	var pod corev1.Pod
	if err := yaml.Unmarshal(manifest, &pod); err != nil || len(pod.Spec.Containers) == 0 {
		return etcdPodSpec{}, fmt.Errorf("%s is no pod", file)
	}
	flags := map[string]string{}
	container := pod.Spec.Containers[0]
	for _, arg := range append(container.Command, container.Args...) {
		if name, value, ok := strings.Cut(strings.TrimLeft(arg, "-"), "="); ok && strings.HasPrefix(arg, "-") {
			flags[name] = value
		}
	}
	spec := etcdPodSpec{
		image: container.Image, name: flags["name"], peerURLs: flags["initial-advertise-peer-urls"], dataDir: path.Clean(flags["data-dir"]),
	}
	switch {
	case spec.image == "" || spec.name == "" || spec.peerURLs == "" || host.CheckRemove(spec.dataDir) != nil:
		return etcdPodSpec{}, fmt.Errorf("%s names no image, name, initial-advertise-peer-urls or data-dir of etcd", file)
	case flags["wal-dir"] != "":
		return etcdPodSpec{}, errors.New("etcd has its log outside of its data folder (--wal-dir); hint: myadm cannot restore that")
	}
	return spec, nil
}

// initialCluster is the value of --initial-cluster for the member alone.
func (s etcdPodSpec) initialCluster() string {
	var pairs []string
	for u := range strings.SplitSeq(s.peerURLs, ",") {
		pairs = append(pairs, s.name+"="+u)
	}
	return strings.Join(pairs, ",")
}

// setInitialCluster gives a static pod of etcd that value of --initial-cluster, in the state existing. All else stays as
// it is, to the byte.
func setInitialCluster(manifest []byte, value string) []byte {
	const state = "- --initial-cluster-state="
	var out bytes.Buffer
	for line := range bytes.Lines(manifest) {
		text := strings.TrimSpace(string(line))
		indent := string(line[:len(line)-len(bytes.TrimLeft(line, " "))])
		switch {
		case strings.HasPrefix(text, state):
		case strings.HasPrefix(text, "- --initial-cluster="):
			fmt.Fprintf(&out, "%s- --initial-cluster=%s\n%s%sexisting\n", indent, value, indent, state)
		default:
			out.Write(line)
		}
	}
	return out.Bytes()
}
