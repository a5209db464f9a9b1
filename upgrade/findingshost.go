package upgrade

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
)

// settings finds what keeps the new version of a host's components from starting.
func (j *findingJudge) settings(h *HostState) {
	for _, name := range componentOrder {
		manifest, ok := h.Manifests[name]
		image := imageFor(name, j.to.Images)
		if !ok || !h.ControlPlane || image == "" {
			continue
		}
		if _, err := target(name, manifest, image); err != nil {
			j.refuse(findingManifest, h.Name, "", "%s: %v", manifests.StaticPodPath(name), err)
		}
		version := j.to.Version
		j.removed(h, Removed(version, name, podArgs(manifest), nil))
	}
	flags, err := manifests.ParseKubeletFlagsEnv(h.KubeletFlags)
	if err != nil && h.KubeletFlags != nil {
		j.warn(findingFlag, h.Name, "", "%s cannot be read: %v", config.KubeletFlagsEnv, err)
	}
	j.removed(h, Removed(j.to.Version, kubelet, flags, kubeletGates(h.Kubelet)))
}

func (j *findingJudge) removed(h *HostState, uses []RemovedUse) {
	for _, u := range uses {
		name := findingFlag
		if !strings.HasPrefix(u.Use, "-") {
			name = findingGate
		}
		j.refuse(name, h.Name, "", "%s", u)
	}
}

// podArgs are the flags of a static pod's component: of the container that is named like the pod, else of the first one.
func podArgs(manifest []byte) []config.Arg {
	var pod corev1.Pod
	if yaml.Unmarshal(manifest, &pod) != nil || len(pod.Spec.Containers) == 0 {
		return nil
	}
	i := max(0, slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == pod.Name }))
	container := pod.Spec.Containers[i]
	var args []config.Arg
	for _, word := range slices.Concat(container.Command, container.Args) {
		if name, value, _ := strings.Cut(strings.TrimLeft(word, "-"), "="); strings.HasPrefix(word, "-") {
			args = append(args, config.Arg{Name: name, Value: value})
		}
	}
	return args
}

// kubeletGates are the feature gates of a kubelet's configuration.
func kubeletGates(configuration []byte) map[string]bool {
	var c struct {
		FeatureGates map[string]bool `json:"featureGates"`
	}
	if yaml.Unmarshal(configuration, &c) != nil {
		return nil // a kubelet that runs can read it; it is of a form that is not known here
	}
	return c.FeatureGates
}

// artifacts finds what a host needs and nobody has for it.
func (j *findingJudge) artifacts(h *HostState, p *HostPlan) {
	if p.changes == 0 {
		return
	}
	switch {
	case h.BundleErr != nil:
		j.refuse(findingIncomplete, h.Name, "", "%v", h.BundleErr)
		return
	case j.to.Bundle == "":
		return // it is fetched when it is needed
	case j.to.Bundle != j.to.Version:
		return // that is a finding of its own
	}
	var lacking []string
	for _, image := range j.images(p) {
		inBundle := slices.ContainsFunc(h.Artifacts, func(a bundle.Artifact) bool { return a.Image == image })
		_, there := h.images[image]
		if !inBundle && !there && h.images != nil {
			lacking = append(lacking, image)
		}
	}
	if len(lacking) > 0 {
		j.refuse(findingIncomplete, h.Name, "make the bundle anew", "the bundle lacks for %s: %s", h.Arch, strings.Join(lacking, ", "))
	}
}

// images are those that a host is to run and does not run yet.
func (j *findingJudge) images(p *HostPlan) []string {
	var list []string
	for _, i := range p.Components {
		if i.Change && i.WantImage != "" {
			list = append(list, i.WantImage)
		}
	}
	for _, a := range j.plan.Addons {
		if a.Change {
			list = append(list, a.WantImage)
		}
	}
	return list
}

// disks finds filesystems that lack room for what the host is to get, twice: images are unpacked beside what was sent, and
// binaries are staged beside those that run. The first control plane has to hold a snapshot of etcd as well, and one whose
// etcd is alone and moves, a copy of its data.
func (j *findingJudge) disks(h *HostState, p *HostPlan) {
	if p.changes == 0 {
		return
	}
	need := map[string]int64{} // by mount
	add := func(dir string, bytes int64) {
		if d, known := h.Disks[dir]; known && bytes > 0 {
			need[d.mount] += bytes
		}
	}
	var binaries, images []bundle.Artifact
	for _, a := range h.Missing {
		if a.Kind == bundle.KindImage {
			images = append(images, a)
		} else {
			binaries = append(binaries, a)
		}
	}
	add(imagesDir, 2*bundle.TotalSize(images))
	add(binariesDir, 2*bundle.TotalSize(binaries))
	if j.to.Images.Etcd != "" {
		if j.keepsSnapshot(h) {
			add(snapshotFolder, h.EtcdDB)
		}
		if len(j.s.Report.Etcd.Members) < 2 && movesImage(p, manifests.EtcdName) {
			add(h.EtcdDir, 2*h.EtcdDB) // its log goes with the database
		}
	}
	for _, mount := range slices.Sorted(maps.Keys(need)) {
		free := int64(-1)
		for _, d := range h.Disks {
			if d.mount == mount {
				free = d.free
			}
		}
		if free < need[mount] {
			j.refuse(findingDisk, h.Name, "make room there", "%s has %d MiB free, and the upgrade needs %d",
				cmp.Or(mount, "/"), free>>20, (need[mount]+1<<20-1)>>20)
		}
	}
}

// keepsSnapshot tells whether the host is the control plane that the snapshot is kept on: the document's first.
func (j *findingJudge) keepsSnapshot(h *HostState) bool {
	i := slices.IndexFunc(j.s.Hosts, func(h HostState) bool { return h.ControlPlane })
	return i >= 0 && j.s.Hosts[i].Name == h.Name
}

// movesImage tells whether a component comes to run from another image.
func movesImage(p *HostPlan, component string) bool {
	return slices.ContainsFunc(p.Components, func(i Item) bool { return i.Name == component && i.Change && i.HaveImage != i.WantImage })
}
