package config

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// namedComponent is a component of the control plane with its field's path.
type namedComponent struct {
	path string
	*Component
}

func (c *Cluster) components() []namedComponent {
	return []namedComponent{
		{"spec.apiServer", &c.Spec.APIServer},
		{"spec.controllerManager", &c.Spec.ControllerManager},
		{"spec.scheduler", &c.Spec.Scheduler},
	}
}

// NeededFile is a file of a host without which a component of the control plane does not start.
type NeededFile struct {
	Field string // spec.apiServer.extraVolumes[0]
	Path  string
}

// NeededFiles are the files that a control plane needs, and that the document does not place there by itself. Where the
// document is what a cluster tells of itself, those that another document has for it are among them.
func (c *Cluster) NeededFiles() []NeededFile {
	var files []NeededFile
	for _, component := range c.components() {
		for i, v := range component.ExtraVolumes {
			if v.File == "" && v.PathType == corev1.HostPathFile {
				files = append(files, NeededFile{fmt.Sprintf("%s.extraVolumes[%d]", component.path, i), v.HostPath})
			}
		}
	}
	return files
}

// forKubeadm is the component without what kubeadm has no field for.
func (c Component) forKubeadm() Component {
	c.Patch = nil
	volumes := make([]HostPathMount, 0, len(c.ExtraVolumes))
	for _, v := range c.ExtraVolumes {
		v.File, v.Content = "", nil
		volumes = append(volumes, v)
	}
	if len(volumes) > 0 {
		c.ExtraVolumes = volumes
	}
	return c
}

// fromKubeadm is the component as kubeadm tells it, with what ours has that kubeadm cannot tell: a patch, and the files of
// volumes that both have.
func (c Component) fromKubeadm(told Component) Component {
	told.Patch = c.Patch
	for i := range told.ExtraVolumes {
		for _, v := range c.ExtraVolumes {
			if v.Name == told.ExtraVolumes[i].Name && v.HostPath == told.ExtraVolumes[i].HostPath {
				told.ExtraVolumes[i].File, told.ExtraVolumes[i].Content = v.File, v.Content
			}
		}
	}
	return told
}
