//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
)

// beating are the resources that a cluster at rest goes on writing.
var beating = []string{"events", "leases"}

// objects are the resourceVersions of all objects of the cluster, by resource, namespace and name. The status of a node
// holds its heartbeat, and that of a pod what its kubelet may report some seconds late, so of these it is the rest.
func (s *site) objects(t *testing.T) listing {
	t.Helper()
	return s.listObjects(t, beating, version)
}

// listObjects lists all objects, but those of some resources, by resource, namespace and name, with what tell tells of each.
func (s *site) listObjects(t *testing.T, but []string, tell func(resource string, o unstructured.Unstructured) string) listing {
	t.Helper()
	config := s.restConfig(t)
	client, err := dynamic.NewForConfig(config)
	must(t, err)
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	must(t, err)
	lists, err := disco.ServerPreferredResources()
	must(t, err)

	all := listing{}
	for _, list := range lists {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		must(t, err)
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || !slices.Contains(r.Verbs, "get") || slices.Contains(but, r.Name) {
				continue
			}
			found, err := client.Resource(group.WithResource(r.Name)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatalf("list %s: %v", r.Name, err)
			}
			for _, o := range found.Items {
				if o.GetAnnotations()[corev1.MirrorPodAnnotationKey] != "" {
					continue // a kubelet's word on a file, which may come a minute late
				}
				all[fmt.Sprintf("%s %s/%s", r.Name, o.GetNamespace(), o.GetName())] = tell(r.Name, o)
			}
		}
	}
	if len(all) < 100 {
		t.Fatalf("there are only %d objects; the listing is wrong", len(all))
	}
	return all
}

func version(resource string, o unstructured.Unstructured) string {
	if resource == "nodes" || resource == "pods" {
		return fmt.Sprint(o.GetUID(), o.GetDeletionTimestamp(), o.GetLabels(), o.GetAnnotations(), o.Object["spec"])
	}
	return o.GetResourceVersion()
}

// restingObjects are the objects once controllers have settled: the same ones in two looks, two seconds apart.
func (s *site) restingObjects(t *testing.T) listing {
	t.Helper()
	const calm = 2 * time.Second
	last, since := s.objects(t), time.Now()
	eventually(t, time.Minute, "the cluster at rest", func(context.Context) error {
		now := s.objects(t)
		if diff := last.difference(now); diff != "" {
			last, since = now, time.Now()
			return fmt.Errorf("objects still change: %s", diff)
		}
		if time.Since(since) < calm {
			return fmt.Errorf("nothing has changed for less than %s", calm)
		}
		return nil
	})
	return last
}

// lives tells of every container of the cluster when it started and how often it was restarted.
func (s *site) lives(t *testing.T) listing {
	t.Helper()
	pods, err := s.api(t).CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	must(t, err)
	lives := listing{}
	for _, p := range pods.Items {
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			lives[p.Namespace+"/"+p.Name+"/"+c.Name] = fmt.Sprintf("%s, pod since %s, restarted %d times, %s", c.ContainerID, p.Status.StartTime, c.RestartCount, since(c.State))
		}
	}
	return lives
}

func since(state corev1.ContainerState) string {
	switch {
	case state.Running != nil:
		return "running since " + state.Running.StartedAt.String()
	case state.Terminated != nil:
		return "ended at " + state.Terminated.FinishedAt.String()
	}
	return "not started"
}
