//go:build e2e

package e2e

import (
	"context"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/e2e/lab"
	"github.com/myadm/myadm/e2e/lab/build"
)

// removedGate is a feature gate that every component of the older version takes and none of the newest.
const removedGate = "SidecarContainers"

// ignoreGates lets an upgrade go on although preflight knows better.
var ignoreGates = []string{"--ignore-preflight-errors", "removed-feature-gate"}

// healthyAgain is how an error ends after which the host runs what it ran before.
const healthyAgain = "what ran before is back and healthy\n  hint: mend the cause and run the same command again"

// faulty is a cluster whose upgrade goes wrong again and again, while clients go on.
type faulty struct {
	*site
	loads            *loads
	servers, workers []string
}

// TestUpgradeFaults has an upgrade fail in every way, one after the other. Each time the cluster goes on, the message says
// what happened, and the next run carries on; the last one finishes.
func TestUpgradeFaults(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 5, ControlPlanes: 3, KubernetesVersion: older})
	f := faulty{site: s, servers: []string{"h1", "h2", "h3"}, workers: []string{"h4", "h5"}}
	s.document = s.write(t, f.servers, f.workers, nil)
	s.apply(t)
	s.waitAvailable(t)
	s.through(t, "h5")
	f.loads = s.startLoads(t, "h5")
	for _, fault := range []struct {
		name string
		test func(t *testing.T)
	}{
		{"the snapshot's disk is full", f.testFullDisk},
		{"etcd crashes", f.testEtcdCrashes},
		{"an API server does not start", f.testServerNeverStarts},
		{"an API server is never ready", f.testServerNeverReady},
		{"a budget lets no pod go", f.testBudget},
		{"an image is missing on the second control plane", f.testMissingImage},
		{"a control plane loses its power half-way", f.testPowerLossHalfWay},
		{"a worker's kubelet does not start", f.testKubeletNeverStarts},
	} {
		t.Run(fault.name, func(t *testing.T) {
			fault.test(t)
			f.wantWell(t, fault.name)
		})
	}
	s.upgrade(t, "-v").want(t, 0)
	f.loads.awaitCalm(t)
	f.loads.stop(t)
	s.wantVersion(t, newest, "h1", "h2", "h3", "h4", "h5")
	s.testUpgradeAgain(t)
	s.wantTidy(t, "h1", "h2", "h3", "h4", "h5")
}

// wantWell fails the test unless the cluster serves, pods can go everywhere, and nothing has got lost.
func (f faulty) wantWell(t *testing.T, after string) {
	t.Helper()
	for _, n := range slices.Concat(f.servers, f.workers) {
		f.wantEndpoint(t, n)
	}
	f.wantMembers(t, f.servers...)
	f.wantCordoned(t)
	f.loads.awaitCalm(t)
	f.loads.report(t, after)
	f.awaitUpgradable(t)
}

// wantRuns fails the test unless the API server or, on a worker, the kubelet of a host is of a version.
func (f faulty) wantRuns(t *testing.T, host, version string) {
	t.Helper()
	script := "/usr/local/bin/kubelet --version"
	if slices.Contains(f.servers, host) {
		script = `"/proc/$(pgrep -xo kube-apiserver)/exe" --version`
	}
	if got := strings.TrimSpace(f.shell(t, host, script)); got != "Kubernetes "+version {
		t.Errorf("%s runs %s, want %s", host, got, version)
	}
}

// wantUntouched runs what must not stop or start anything.
func (f faulty) wantUntouched(t *testing.T, do func()) {
	t.Helper()
	lives := f.lives(t)
	do()
	after := f.lives(t)
	for name := range after {
		if _, known := lives[name]; !known { // the API may hear of a static pod late
			delete(after, name)
		}
	}
	if diff := lives.difference(after); diff != "" {
		t.Errorf("containers (-before +after):\n%s", diff)
	}
}

func (f faulty) testFullDisk(t *testing.T) {
	f.shell(t, "h1", "mkdir -p "+snapshotFolder+"; mount -t tmpfs -o size=1m tmpfs "+snapshotFolder+"; dd if=/dev/zero of="+snapshotFolder+"/full bs=64k 2>/dev/null || true")
	defer f.shell(t, "h1", "umount "+snapshotFolder)
	f.wantUntouched(t, func() {
		f.upgrade(t).want(t, 3).wantWords(t, "disk-space", "h1: "+snapshotFolder+" has 0 MiB free", "hint: make room there")
		f.upgrade(t, "--ignore-preflight-errors", "disk-space").want(t, 1).wantWords(t, "h1", "snapshot", "o space left on device")
	})
	f.wantRuns(t, "h1", older)
}

func (f faulty) testEtcdCrashes(t *testing.T) {
	f.upgradeWith(t, impostor(t, "etcd")).want(t, 1).wantWords(t, "h1", "etcd 3.7.0-0", "impostor: panic: etcd cannot read its own data", healthyAgain)
	f.wantRuns(t, "h1", older)
}

func (f faulty) testServerNeverStarts(t *testing.T) {
	f.editServer(t, "h1", `s/^    - kube-apiserver$/&\n    - --feature-gates=`+removedGate+`=true/`)
	f.wantUntouched(t, func() {
		f.upgrade(t).want(t, 3).wantWords(t, "removed-feature-gate", "h1: kube-apiserver: "+removedGate+"=true", "hint: remove it")
	})
	f.upgrade(t, append(ignoreGates, "--timeout", "20s")...).want(t, 1).
		wantWords(t, "h1", "kube-apiserver "+newest, "unrecognized feature gate: "+removedGate, healthyAgain)
	f.wantRuns(t, "h1", older)
	f.editServer(t, "h1", "/"+removedGate+"/d")
}

func (f faulty) testServerNeverReady(t *testing.T) {
	f.upgradeWith(t, impostor(t, "kube-apiserver")).want(t, 1).wantWords(t, "h1", "kube-apiserver "+newest, "impostor failed: not finished", healthyAgain)
	f.wantRuns(t, "h1", older)
}

// testBudget has a pod on a control plane that may not be evicted.
func (f faulty) testBudget(t *testing.T) {
	f.importTestImage(t, "h1")
	client, labels := f.api(t), map[string]string{"app": "guard"}
	spec := testPod("h1", "sleep")
	spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	_, err := client.AppsV1().Deployments("default").Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "guard"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	needed := intstr.FromInt32(1)
	_, err = client.PolicyV1().PodDisruptionBudgets("default").Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "guard"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &needed, Selector: &metav1.LabelSelector{MatchLabels: labels}},
	}, metav1.CreateOptions{})
	must(t, err)
	f.waitPods(t)
	f.upgrade(t, "--drain-timeout", "5s").want(t, 1).
		wantWords(t, "[disruption-budget]", "h1", "drain node h1", "is held by PodDisruptionBudget guard", "hint: --drain-timeout")
	f.wantRuns(t, "h1", older)
	must(t, client.PolicyV1().PodDisruptionBudgets("default").Delete(t.Context(), "guard", metav1.DeleteOptions{}))
	must(t, client.AppsV1().Deployments("default").Delete(t.Context(), "guard", metav1.DeleteOptions{}))
}

func (f faulty) testMissingImage(t *testing.T) {
	image := "registry.k8s.io/kube-apiserver:" + newest
	f.output(t, "h2", "/usr/local/bin/ctr", "-n", "k8s.io", "images", "rm", image)
	f.upgrade(t, "-v", "--skip", "images").want(t, 1).wantWords(t, "h2", "the host has no image "+image, "hint: ")
	f.wantRuns(t, "h1", newest)
	f.wantRuns(t, "h2", older)
}

// bounded is how long myadm may go on with a host that has gone.
const bounded = 90 * time.Second

func (f faulty) testPowerLossHalfWay(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	killed := make(chan error, 1)
	run := f.start(ctx, t, func(line string) {
		if strings.Contains(line, " h2 ") && strings.Contains(line, " replace kube-apiserver") && len(killed) == 0 {
			killed <- f.Kill(ctx, "h2")
		}
	}, nil, f.upgradeArgs("apply", newest, "-v")...)
	r, err := run.wait()
	must(t, err)
	r.want(t, 1).wantWords(t, "h2")
	if len(killed) == 0 {
		t.Fatalf("it never came to h2: %s", r)
	}
	must(t, <-killed)
	if t.Log(r); r.took > bounded {
		t.Errorf("it went on for %s", r.took)
	}
	f.loads.awaitCalm(t)
	on := time.Now()
	must(t, f.Start(t.Context(), "h2"))
	f.awaitReturn(t, "h2", on)
	// Whatever the host has come to: the next run carries on there, and lets pods come to it again.
	f.upgrade(t, "-v", "--skip", "workers").want(t, 0)
	for _, h := range f.servers {
		f.wantRuns(t, h, newest)
	}
}

// testKubeletNeverStarts has a worker with a configuration that the new kubelet refuses. The worker after it stays as it is.
func (f faulty) testKubeletNeverStarts(t *testing.T) {
	const config = "/var/lib/kubelet/config.yaml"
	f.shell(t, "h4", "! grep -q featureGates "+config+"; printf 'featureGates:\\n  "+removedGate+": true\\n' >>"+config)
	f.upgrade(t, append(ignoreGates, "-v", "--timeout", "40s")...).want(t, 1).
		wantWords(t, "h4", "kubelet "+newest, "unrecognized feature gate: "+removedGate, healthyAgain)
	f.wantRuns(t, "h4", older)
	f.wantRuns(t, "h5", older)
	f.wantRuns(t, "h3", newest)
	f.shell(t, "h4", "sed -i '/^featureGates:$/,$d' "+config)
}

// upgradeWith runs upgrade apply with another bundle, whose control plane is not long waited for.
func (f faulty) upgradeWith(t *testing.T, bundle string) result {
	t.Helper()
	return f.myadm(t, nil, "upgrade", "apply", newest, "-f", f.document, "--bundle", bundle, "--timeout", "20s", "-v")
}

// editServer changes the manifest of an API server by a script of sed, and waits until it runs with that. With its kubelet
// stopped that takes some seconds.
func (f faulty) editServer(t *testing.T, host, script string) {
	t.Helper()
	f.shell(t, host, "systemctl stop kubelet; sed -i '"+script+"' /etc/kubernetes/manifests/kube-apiserver.yaml; pkill -KILL -x kube-apiserver; systemctl start kubelet")
	dialer := impatient(2 * time.Second)
	eventually(t, 2*time.Minute, "the API server of "+host, func(ctx context.Context) error {
		return f.readyz(ctx, t, dialer.DialContext, f.address(t, host, "6443"))
	})
	f.awaitUpgradable(t)
}

// impostor is the newest version's bundle with a build of a component that does not work.
func impostor(t *testing.T, component string) string {
	t.Helper()
	archive, err := build.Impostor(t.Context(), artifacts(), component)
	must(t, err)
	from, err := bundle.Open(made.bundle)
	must(t, err)
	defer from.Close()
	dir := filepath.Join(t.TempDir(), "bundle")
	to, err := bundle.Create(dir, from.Index.KubernetesVersion)
	must(t, err)
	for _, a := range from.Index.Artifacts {
		if a.Name == component && a.Kind == bundle.KindImage && a.Arch == runtime.GOARCH {
			a.Digest = "" // it has one of its own
			must(t, to.AddArchive(a, archive))
		} else {
			must(t, to.Copy(t.Context(), from, a))
		}
	}
	must(t, to.Close())
	return dir
}
