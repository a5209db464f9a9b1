//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/e2e/lab/build"
)

// made is what the tests work with. TestMain fills it in before the first test and nobody changes it.
var made struct {
	myadm     string // the binary under test
	kubectl   string // the bundle's
	bundle    string // folder
	older     string // the bundle of the version before, from which clusters are upgraded
	testImage string // archive
}

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "myadm-e2e-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = makeArtifacts(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

// makeArtifacts builds the binary, and sees that what it brings to the hosts is in the cache.
func makeArtifacts(ctx context.Context, dir string) error {
	made.myadm = filepath.Join(dir, "myadm")
	goBuild := exec.CommandContext(ctx, "go", "build", "-o", made.myadm, "../cmd/myadm")
	goBuild.Env = append(os.Environ(), "CGO_ENABLED=0") // static: it is also copied to hosts
	goBuild.Stderr = os.Stderr
	if err := goBuild.Run(); err != nil {
		return fmt.Errorf("build myadm: %w", err)
	}
	var err error
	if made.bundle, err = build.Bundle(ctx, artifacts()); err != nil {
		return err
	}
	if made.older, err = build.Bundle(ctx, artifactsOf(older)); err != nil {
		return err
	}
	if made.testImage, err = build.TestImage(ctx, artifacts()); err != nil {
		return err
	}
	made.kubectl = filepath.Join(dir, "kubectl")
	return extract(made.bundle, "kubectl", made.kubectl)
}

// The versions of the bundles.
var newest, older = build.Versions()[0], build.Versions()[1]

// artifacts are the options by which the lab's builder knows what the tests need.
func artifacts() build.Options { return artifactsOf(newest) }

func artifactsOf(version string) build.Options {
	return build.Options{KubernetesVersion: version, ComponentsDir: "components", Out: os.Stderr}
}

// extract takes one binary of this machine's architecture out of a bundle.
func extract(from, name, target string) error {
	b, err := bundle.Open(from)
	if err != nil {
		return err
	}
	defer b.Close()
	artifact, err := b.Binary(name, runtime.GOARCH)
	if err != nil {
		return err
	}
	content, err := b.Open(context.Background(), artifact)
	if err != nil {
		return err
	}
	defer content.Close()
	data, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	return os.WriteFile(target, data, 0o755)
}
