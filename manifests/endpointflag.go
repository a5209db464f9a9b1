package manifests

import (
	"errors"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// EndpointFlag keeps an API server from naming itself as an endpoint of the Service kubernetes. With the node-local load
// balancer, pods are to go through the one of their node, and myadm names those.
const EndpointFlag = endpointReconciler + "=none"

const endpointReconciler = "--endpoint-reconciler-type"

// WithEndpointFlag gives the static pod of an API server EndpointFlag and changes nothing else of it; changed is false when
// it has the flag.
func WithEndpointFlag(pod []byte) (out []byte, changed bool, err error) {
	manifest, err := object(pod)
	if err != nil {
		return nil, false, errors.New("not a pod in YAML")
	}
	spec, _ := manifest["spec"].(map[string]any)
	containers, _ := spec["containers"].([]any)
	if len(containers) == 0 {
		return nil, false, errors.New("the pod has no container")
	}
	container, _ := containers[0].(map[string]any)
	command, _ := container["command"].([]any)
	if len(command) == 0 {
		return nil, false, errors.New("the pod's container has no command")
	}
	others := slices.DeleteFunc(slices.Clone(command), func(arg any) bool {
		text, ok := arg.(string)
		return ok && strings.HasPrefix(text, endpointReconciler+"=")
	})
	if slices.Contains(command, any(EndpointFlag)) && len(others) == len(command)-1 {
		return pod, false, nil
	}
	container["command"] = append(others, EndpointFlag) // last, as where the document's own flags stand
	out, err = yaml.Marshal(manifest)
	return out, true, err
}
