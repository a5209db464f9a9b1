package upgrade

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/unified"
)

// Diff shows in the unified format what an upgrade would change in the files and objects that users edit too: the static pods
// of each control plane, the images of addons, and what the cluster keeps of its configuration. Secrets in them are hidden, as
// package unified does. It is empty when nothing would change. The error names what cannot be changed; the rest is shown all the same.
func Diff(s *State, to Target) ([]byte, error) {
	var out bytes.Buffer
	var errs []error
	show := func(what string, before, after []byte) {
		text := unified.Whole(what, what+" at "+to.Version, before, after)
		switch text {
		case unified.Secret, unified.Binary:
			text = what + ": " + text + "\n"
		}
		out.WriteString(text)
	}
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if h.Err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", h.Name, h.Err))
		}
		for _, name := range componentOrder {
			manifest, ok := h.Manifests[name]
			image := imageFor(name, to.Images)
			if !ok || !h.ControlPlane || image == "" {
				continue
			}
			at := h.Name + ":" + manifests.StaticPodPath(name)
			pod, err := target(name, manifest, image)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", at, err))
				continue
			}
			show(at, manifest, pod.manifest)
		}
	}
	for _, a := range s.Addons {
		w := a.at(to)
		next, _ := w.next()
		if next == "" {
			continue
		}
		if text, migrated, err := s.corefile(a, to); err != nil {
			errs = append(errs, fmt.Errorf("ConfigMap kube-system/%s: %w", a.Name, err))
		} else {
			show("ConfigMap kube-system/"+a.Name+" "+corefileField, []byte(text), []byte(migrated))
		}
		show(w.ref.String(), imageLine(a.Image), imageLine(next))
	}
	errs = append(errs, s.Unknown...)
	if have, ok := s.Config[configKey(manifests.KubeadmConfigName, manifests.KubeadmConfigKey)]; ok && have != "" {
		at := "ConfigMap kube-system/" + manifests.KubeadmConfigName
		told, err := config.SetKubernetesVersion([]byte(have), to.Version)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", at, err))
		} else {
			show(at, []byte(have), told)
		}
	}
	return out.Bytes(), errors.Join(errs...)
}

// imageLine is all of an addon that an upgrade changes.
func imageLine(image string) []byte { return []byte("image: " + image + "\n") }

// corefile is the Corefile as it is and as the new version of an addon takes it; both are empty for what is not CoreDNS, and
// the same where nothing is to be written.
func (s *State) corefile(a Addon, to Target) (have, want string, err error) {
	have = s.Config[configKey(coreDNS, corefileField)]
	if a.Name != coreDNS || have == "" {
		return "", "", nil
	}
	w := a.at(to)
	if next, _ := w.next(); next == "" {
		return have, have, nil
	}
	want, _, err = migrateCorefile(versionIn(a.Image), versionIn(w.image), have)
	return have, want, err
}
