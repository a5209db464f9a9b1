package build

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A failed tool's last lines are in the error: they say what went wrong.
func TestRunKeepsTheLastLines(t *testing.T) {
	var progress buildProgress
	err := run(exec.CommandContext(t.Context(), "sh", "-c", "echo go: downloading x; seq 40; echo undefined: foo >&2; exit 3"), &progress)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.HasSuffix(err.Error(), "40\nundefined: foo") || strings.Contains(err.Error(), "downloading") {
		t.Errorf("error %v", err)
	}
	if progress.downloaded.Load() != 1 || progress.compiled.Load() != 41 {
		t.Errorf("counted %d and %d", progress.downloaded.Load(), progress.compiled.Load())
	}
}

// A tool that prints one endless line is not blocked by whoever reads it.
func TestRunReadsLongLines(t *testing.T) {
	if err := run(exec.CommandContext(t.Context(), "head", "-c", "300000", "/dev/zero"), quiet{}); err != nil {
		t.Error(err)
	}
}

func TestBuildProgressReports(t *testing.T) {
	var progress buildProgress
	progress.line("k8s.io/kubernetes/cmd/kubelet")
	ctx, cancel := context.WithCancel(t.Context())
	tick := make(chan time.Time)
	var out strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		progress.report(ctx, &out, "kubernetes", tick)
	}()
	tick <- time.Time{}
	cancel()
	<-done
	if got := out.String(); got != "kubernetes: 0 modules downloaded, 1 packages compiled, 0s\n" {
		t.Errorf("reported %q", got)
	}
}

// A program does not say where it was built, or two people's bundles would differ.
func TestProgramHoldsNoPath(t *testing.T) {
	b := testBuilder(t)
	s, err := b.module(module{dir: "pause", programs: []string{".=pause"}})
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(filepath.Join(mustRun(t, b, s), "pause"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := filepath.Abs(componentsDir)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(program, []byte(source)) {
		t.Errorf("the program holds %s", source)
	}
}

// A broken program is an error that shows the compiler's words, and leaves no step.
func TestModuleThatDoesNotBuild(t *testing.T) {
	b := testBuilder(t)
	s, err := b.module(module{dir: "pause", programs: []string{"./nowhere"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.run(t.Context(), s); err == nil || !strings.Contains(err.Error(), "nowhere") || !strings.Contains(err.Error(), "make pause") {
		t.Errorf("error %v", err)
	}
	if _, err := b.module(module{dir: "gone"}); err == nil || !strings.Contains(err.Error(), "component gone") {
		t.Errorf("error %v", err)
	}
}

// The program's name is what go build gives it, whatever the package's path ends with.
func TestProgramName(t *testing.T) {
	b := testBuilder(t)
	for pkg, want := range map[string]string{
		"go.etcd.io/etcd/server/v3":            "server",
		"k8s.io/kubernetes/cmd/kubelet":        "kubelet",
		"example.com/vault":                    "vault",
		"github.com/containerd/containerd/v12": "containerd",
		".":                                    "pause",
	} {
		if got, err := b.programName(t.Context(), componentsDir+"/pause", pkg); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", pkg, got, err, want)
		}
	}
}
