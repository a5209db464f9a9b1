package manifests

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// PodImage is the image that a static pod runs its component from, whoever wrote the manifest: that of the container
// which is named like the pod, else of the first one. Other containers are the user's.
func PodImage(manifest []byte) (string, error) {
	pod, err := object(manifest)
	if err != nil {
		return "", errors.New("not a pod in YAML")
	}
	_, container, err := componentOf(pod)
	if err != nil {
		return "", err
	}
	return imageOf(container)
}

// WithPodImage gives the component of a static pod another image; changed is false when it has that one. Every other byte
// stays, comments, order and line ends included. That nothing else has changed is proved by reading the result again. A
// manifest in which the image cannot be replaced so is an error that says what to do.
func WithPodImage(manifest []byte, image string) (pod []byte, changed bool, err error) {
	was, err := PodImage(manifest)
	if err != nil {
		return nil, false, err
	}
	if was == image {
		return manifest, false, nil
	}
	pod, ok := replaceImage(string(manifest), was, image)
	if !ok || !differsInImage(manifest, pod, image) {
		return nil, false, fmt.Errorf("the container's image cannot be replaced where it stands; hint: write it on one line as image: %s, without anchor, merge or escape", was)
	}
	return pod, true, nil
}

// componentOf finds the container of a pod's component, and its place in the list.
func componentOf(pod map[string]any) (int, map[string]any, error) {
	meta, _ := pod["metadata"].(map[string]any)
	spec, _ := pod["spec"].(map[string]any)
	containers, _ := spec["containers"].([]any)
	if len(containers) == 0 {
		return 0, nil, errors.New("the pod has no container")
	}
	for i, c := range containers {
		container, _ := c.(map[string]any)
		if name, ok := container["name"].(string); ok && name == meta["name"] {
			return i, container, nil
		}
	}
	container, _ := containers[0].(map[string]any)
	return 0, container, nil
}

func imageOf(container map[string]any) (string, error) {
	image, _ := container["image"].(string)
	if image == "" {
		return "", errors.New("the pod's container has no image")
	}
	return image, nil
}

// replaceImage writes an image over another in the text of a manifest. It is not ok when that one does not stand there in
// so many letters.
func replaceImage(manifest, was, image string) (out []byte, ok bool) {
	parsed, err := object([]byte(manifest))
	if err != nil {
		return nil, false
	}
	i, _, err := componentOf(parsed)
	if err != nil {
		return nil, false
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(manifest), &document); err != nil || len(document.Content) == 0 {
		return nil, false
	}
	containers := field(field(document.Content[0], "spec"), "containers")
	if containers == nil || i >= len(containers.Content) {
		return nil, false
	}
	scalar := field(containers.Content[i], "image")
	if scalar == nil || scalar.Value != was {
		return nil, false
	}
	begin := position(manifest, scalar.Line, scalar.Column)
	for _, quote := range []string{"", `"`, "'"} {
		if after, found := strings.CutPrefix(manifest[begin:], quote+was+quote); found {
			return []byte(manifest[:begin] + quote + image + quote + after), true
		}
	}
	return nil, false
}

// field is the value of a mapping's field, nil if there is none. Of one that is there twice the last counts, as for the
// kubelet.
func field(mapping *yaml.Node, name string) (value *yaml.Node) {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			value = mapping.Content[i+1]
		}
	}
	return value
}

// position is where in a text a line and column begin, both counted from 1 and columns in characters, as in a yaml.Node.
// It is the text's end when that is shorter.
func position(text string, line, column int) int {
	atLine, atColumn := 1, 1
	for i, r := range text {
		if atLine == line && atColumn == column {
			return i
		}
		switch {
		case r == '\r' && strings.HasPrefix(text[i+1:], "\n"): // the line ends with the next one
		case strings.ContainsRune("\r\n\u0085\u2028\u2029", r):
			atLine, atColumn = atLine+1, 1
		default:
			atColumn++
		}
	}
	return len(text)
}

// differsInImage tells whether a manifest reads as the other does with the component's image replaced, and nothing else.
func differsInImage(before, after []byte, image string) bool {
	want, err := object(before)
	if err != nil {
		return false
	}
	got, err := object(after)
	if err != nil {
		return false
	}
	_, container, err := componentOf(want)
	if err != nil {
		return false
	}
	container["image"] = image
	return reflect.DeepEqual(want, got)
}
