package upgrade

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/staticpod"
)

const containerdName = "containerd"

var surveyedPrograms = slices.Concat(staticpod.Names, []string{kubelet, manifests.KubeProxyName, containerdName})

// surveyedDirs are the folders that an upgrade fills.
var surveyedDirs = []string{"/", binariesDir, imagesDir, snapshotFolder}

const (
	binariesDir = manifests.BinDir
	imagesDir   = "/var/lib/containerd"
)

// packagedKubelet is where distributions' packages have the kubelet, on hosts that kubeadm made nodes.
const packagedKubelet = "/usr/bin/kubelet"

// surveyScript prints name=value lines: what runs in the network of the host itself (a program of the same name in a pod of
// its own is somebody's workload), with its path and the first line of its --version; the free space of the folders; the
// images of containerd; the kubelet's unit; the contents of the paths that follow before --, in base64; and of those after
// it, written PATH=SIZE, the sizes, and the sums of those that have just that size. $1 is etcd's data folder, $2 containerd's
// socket, $3 the folders, $4 the programs with | between them. It waits for an exchange that an upgrade which was cut has
// left under way. A program whose binary was replaced since it started is asked all the same.
const surveyScript = `
exec 2>/dev/null
export LC_ALL=C
data=$1 socket=$2 dirs=$3 programs=$4; shift 4
while systemctl is-active --quiet ` + staticpod.Unit + `; do sleep 0.1; done
own=$(readlink /proc/self/ns/net)
ls -l /proc/[0-9]*/exe | sed -nE "s,.* /proc/([0-9]+)/exe -> (.*/($programs))( \(deleted\))?\$,\1 \3 \2,p" |
while read -r pid name path; do
	[ "$(readlink "/proc/$pid/ns/net")" = "$own" ] || continue
	echo "runs=$name $path $(timeout 10 "/proc/$pid/exe" --version </dev/null | head -n 1)"
done
for d in $dirs "$data"; do
	at=$d
	while [ ! -e "$at" ]; do at=${at%/*}; [ -n "$at" ] || at=/; done
	df -Pk "$at" | tail -n 1 | while read -r fs size used free percent mount; do echo "free=$d $free $mount"; done
done
[ -f "$data/member/snap/db" ] && echo "etcd-db=$(stat -c %s "$data/member/snap/db")"
[ -S "$socket" ] && list=$(timeout 10 ctr --address "$socket" --namespace k8s.io images ls) && {
	echo images=known
	echo "$list" | while read -r ref type digest rest; do echo "image=$ref $digest"; done
}
echo "unit=$(systemctl show -p ExecStart kubelet.service)"
while [ $# -gt 0 ] && [ "$1" != -- ]; do
	[ -f "$1" ] && echo "file=$1 $(base64 <"$1" | tr -d '\n')"
	shift
done
[ $# -eq 0 ] || shift
for p; do
	want=${p##*=} p=${p%=*}
	[ -f "$p" ] || continue
	size=$(stat -L -c %s "$p")
	echo "size=$p $size"
	[ "$size" != "$want" ] || echo "sum=$p $(sha256sum <"$p" | cut -d " " -f 1)"
done
true
`

// surveyedFiles are read as they are.
func surveyedFiles() []string {
	files := []string{config.KubeletFlagsEnv, config.KubeletConfigFile, manifests.ContainerdUnitPath}
	for _, name := range staticpod.Names {
		files = append(files, manifests.StaticPodPath(name))
	}
	return files
}

// askHost asks a host for all of its state in one round trip.
func askHost(ctx context.Context, c *cluster.Cluster, r host.Reader, wanted []bundle.Artifact) HostState {
	argv := []string{"sh", "-c", surveyScript, "sh", c.Config.Spec.Etcd.DataDir, c.Config.Spec.Runtime.Socket,
		strings.Join(surveyedDirs, " "), strings.Join(surveyedPrograms, "|")}
	argv = append(append(argv, surveyedFiles()...), "--")
	for _, a := range wanted {
		if a.Kind != bundle.KindBinary {
			continue
		}
		argv = append(argv, fmt.Sprintf("%s=%d", a.Target, a.Size()))
		if a.Name == kubelet {
			argv = append(argv, fmt.Sprintf("%s=%d", packagedKubelet, a.Size()))
		}
	}
	out, err := r.Query(ctx, host.Command(argv...))
	if err != nil {
		return HostState{Err: fmt.Errorf("look at what runs: %w", err)}
	}
	answer, err := parseHost(out)
	if err != nil {
		return HostState{Err: fmt.Errorf("look at what runs: %w", err)}
	}
	return answer.state(wanted)
}

// hostAnswer is surveyScript's output.
type hostAnswer struct {
	programs staticpod.Programs
	disks    map[string]space
	etcdDB   int64
	images   map[string]string // nil: unknown
	unit     string
	files    map[string][]byte
	sizes    map[string]int64
	sums     map[string]string // SHA-256 in hex
}

// parseHost reads surveyScript's output. Lines that it does not know are passed over, such as a login message; numbers and
// contents that are none are errors.
func parseHost(out []byte) (*hostAnswer, error) {
	a := &hostAnswer{
		programs: staticpod.Programs{Versions: map[string]*semver.Version{}},
		disks:    map[string]space{}, files: map[string][]byte{}, sizes: map[string]int64{}, sums: map[string]string{},
	}
	for line := range strings.Lines(string(out)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			continue
		}
		first, rest, _ := strings.Cut(value, " ")
		var err error
		switch name {
		case "runs":
			a.runs(first, rest)
		case "free":
			var d space
			var kib string
			kib, d.mount, _ = strings.Cut(rest, " ")
			d.free, err = bytesOf(kib, 1024)
			a.disks[first] = d
		case "etcd-db":
			a.etcdDB, err = bytesOf(value, 1)
		case "images":
			a.images = map[string]string{}
		case "image":
			if a.images != nil && strings.HasPrefix(rest, "sha256:") {
				a.images[first] = rest
			}
		case "unit":
			a.unit = value
		case "file":
			a.files[first], err = base64.StdEncoding.DecodeString(rest)
		case "size":
			a.sizes[first], err = bytesOf(rest, 1)
		case "sum":
			a.sums[first] = rest
		}
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", name, first, err)
		}
	}
	return a, nil
}

// bytesOf reads a number of units.
func bytesOf(s string, unit int64) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && (n < 0 || n > (1<<62)/unit) {
		err = fmt.Errorf("%s is no size", s)
	}
	return n * unit, err
}

// runs takes what a program says of its version: the first word that is one, of "Kubernetes v1.37.2", "etcd Version: 3.7.2"
// and "containerd github.com/containerd/containerd/v2 v2.4.2 2fb2d0c5". The program's path comes before it.
func (a *hostAnswer) runs(name, said string) {
	words := strings.Fields(said)
	if len(words) == 0 {
		return
	}
	for _, word := range words[1:] {
		v, err := semver.StrictNewVersion(strings.TrimPrefix(word, "v"))
		if err != nil {
			continue
		}
		if have := a.programs.Versions[name]; have == nil || v.LessThan(have) {
			a.programs.Versions[name] = v
		}
		return
	}
}

// state is what the answer says of a host that is to have artifacts.
func (a *hostAnswer) state(wanted []bundle.Artifact) HostState {
	h := HostState{
		Manifests: map[string][]byte{}, KubeletFlags: a.files[config.KubeletFlagsEnv], Kubelet: a.files[config.KubeletConfigFile],
		KubeletPath: kubeletPath([]byte(a.unit)), OwnRuntime: len(manifests.MarkedBinaries(a.files[manifests.ContainerdUnitPath])) > 0,
		Disks: a.disks, EtcdDB: a.etcdDB, programs: a.programs, images: a.images,
	}
	for _, name := range staticpod.Names {
		if data, ok := a.files[manifests.StaticPodPath(name)]; ok {
			h.Manifests[name] = data
		}
	}
	_, h.ControlPlane = h.Manifests[manifests.APIServerName]
	for _, artifact := range wanted {
		if !a.has(artifact, h.OwnRuntime) {
			h.Missing = append(h.Missing, artifact)
		}
	}
	return h
}

// has tells whether a host needs not be brought an artifact. A binary that the host does not have at all is not brought,
// except for the kubelet. Of a runtime that is not myadm's nothing is brought, nor images to one that is no containerd.
func (a *hostAnswer) has(artifact bundle.Artifact, ownRuntime bool) bool {
	switch {
	case artifact.Kind == bundle.KindImage:
		return a.images == nil || a.images[artifact.Image] == artifact.Digest
	case !ownRuntime && slices.Contains(artifact.Roles, bundle.RoleRuntime):
		return true
	}
	at := artifact.Target
	if own := kubeletPath([]byte(a.unit)); artifact.Name == kubelet && own != "" {
		at = own
	}
	size, exists := a.sizes[at]
	if !exists {
		return artifact.Name != kubelet
	}
	there := bundle.Blob{SHA256: a.sums[at], Size: size}
	return slices.ContainsFunc(artifact.Blobs, func(blob bundle.Blob) bool { return blob.Content() == there })
}
