package cri

import (
	"context"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pods are the IDs of all pod sandboxes, running or not, in the runtime's order.
func (c *Client) Pods(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got, err := c.runtime.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{})
	if err != nil {
		return nil, c.failed("list pods", err)
	}
	var ids []string
	for _, one := range got.GetItems() {
		ids = append(ids, one.GetId())
	}
	return ids, nil
}

// RemovePod ends a pod's containers at once and removes them with the pod, its network and its mounts: CRI has both requests
// do so by force. One that is gone is fine.
func (c *Client) RemovePod(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	if _, err := c.runtime.StopPodSandbox(ctx, &runtime.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return c.failed("stop pod "+id, err)
	}
	if _, err := c.runtime.RemovePodSandbox(ctx, &runtime.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
		return c.failed("remove pod "+id, err)
	}
	return nil
}
