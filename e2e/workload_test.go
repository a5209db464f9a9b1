//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/myadm/myadm/e2e/lab/build"
)

// wantWorkload proves that pods of different nodes find each other by DNS, a Service and the pod network, and that
// kubectl reaches into them through the API server.
func (s *site) wantWorkload(t *testing.T, serverNode, clientNode string) {
	t.Helper()
	ctx := t.Context()
	s.importTestImage(t, serverNode)
	s.importTestImage(t, clientNode)
	client := s.api(t)
	labels := map[string]string{"app": "web"}
	_, err := client.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: testPod(serverNode, "serve")},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	_, err = client.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}, metav1.CreateOptions{})
	must(t, err)
	asking := testPod(clientNode, "get", "http://web.default.svc.cluster.local/", "60s")
	asking.RestartPolicy = corev1.RestartPolicyNever
	_, err = client.CoreV1().Pods("default").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "client"}, Spec: asking}, metav1.CreateOptions{})
	must(t, err)

	eventually(t, 90*time.Second, "the client's answer", func(ctx context.Context) error {
		pod, err := client.CoreV1().Pods("default").Get(ctx, "client", metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodSucceeded {
			err = fmt.Errorf("the client is %s", pod.Status.Phase)
		}
		return err
	})
	servers, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
	must(t, err)
	if len(servers.Items) != 1 || servers.Items[0].Spec.NodeName != serverNode {
		t.Fatalf("the server is not one pod on %s: %v", serverNode, servers.Items)
	}
	server := servers.Items[0].Name
	if got := s.kubectl(t, "logs", "client"); got != server+"\n" {
		t.Errorf("the client on %s was answered %q, want the server's name %q", clientNode, got, server)
	}
	if got := s.kubectl(t, "logs", server); !strings.Contains(got, "GET / from 10.") {
		t.Errorf("the server's log has no request: %q", got)
	}
	if got := s.kubectl(t, "exec", server, "--", "/usr/local/bin/e2e", "get", "http://127.0.0.1:8080/"); got != server+"\n" {
		t.Errorf("kubectl exec printed %q, want %q", got, server)
	}
	if got := s.kubectl(t, "exec", server, "--", "/usr/local/bin/e2e", "lookup", "kubernetes.default"); got != "10.96.0.1\n" {
		t.Errorf("the address of kubernetes.default is %q in a pod", got)
	}
}

// importTestImage gives a node the image of the test's pods, as nobody else does.
func (s *site) importTestImage(t *testing.T, node string) {
	t.Helper()
	must(t, s.Copy(t.Context(), node, made.testImage, "/root/e2e-image.tar"))
	s.shell(t, node, "/usr/local/bin/ctr -n k8s.io images import /root/e2e-image.tar && rm /root/e2e-image.tar")
}

// testPod runs the test image's program on one node.
func testPod(node string, args ...string) corev1.PodSpec {
	return corev1.PodSpec{
		NodeSelector:                  map[string]string{corev1.LabelHostname: node},
		TerminationGracePeriodSeconds: new(int64), // it has nothing to say farewell to
		Containers: []corev1.Container{{
			Name: "e2e", Image: build.TestImageName, ImagePullPolicy: corev1.PullNever, Args: args,
		}},
	}
}
