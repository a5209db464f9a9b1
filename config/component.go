package config

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
