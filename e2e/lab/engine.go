package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// tool is something the lab needs on the machine, and the Debian package that brings it.
type tool struct {
	proof string // a command, or the absolute path of a file
	pkg   string
}

func (t tool) missing() bool {
	if filepath.IsAbs(t.proof) {
		return !exists(t.proof)
	}
	_, err := lookPath(t.proof)
	return err != nil
}

var (
	engineTools = []tool{{"dockerd", "docker.io"}, {"docker", "docker.io"}, {"ip", "iproute2"}, {"modprobe", "kmod"}}
	imageTools  = []tool{{"debootstrap", "debootstrap"}, {debianKeyring, "debian-archive-keyring"}}
)

// engineStart is how long dockerd may take to answer; it needs about a second.
const engineStart = 60 * time.Second

// openEngine returns a client of a Docker daemon that answers. A daemon that is missing is installed if install is set,
// one that does not run is started and left running, with its log in cacheDir.
func openEngine(ctx context.Context, cacheDir string, install bool, log io.Writer) (docker, error) {
	if d, err := dialEngine(ctx); err == nil {
		return d, nil
	}
	if install {
		if err := installTools(ctx, slices.Concat(engineTools, imageTools), log); err != nil {
			return docker{}, err
		}
	}
	// The package starts the daemon itself where an init system runs.
	d, err := dialEngine(ctx)
	if err == nil {
		return d, nil
	}
	if os.Geteuid() != 0 || os.Getenv("DOCKER_HOST") != "" {
		return docker{}, fmt.Errorf("reach Docker: %w; hint: start it, or run lab as root so that it can", err)
	}
	return startEngine(ctx, cacheDir, log)
}

// dialEngine returns a client if there is one and its daemon answers.
func dialEngine(ctx context.Context) (docker, error) {
	bin, err := lookPath("docker")
	if err != nil {
		return docker{}, err
	}
	d := docker{bin: bin}
	_, err = d.run(ctx, nil, "version", "--format", "{{.Server.Version}}")
	return d, err
}

// startEngine starts dockerd and waits until it answers.
func startEngine(ctx context.Context, cacheDir string, log io.Writer) (docker, error) {
	bin, err := lookPath("dockerd")
	if err != nil {
		return docker{}, fmt.Errorf("%w; hint: install Docker", err)
	}
	path := filepath.Join(cacheDir, "dockerd.log")
	fmt.Fprintf(log, "starting dockerd, log in %s\n", path)
	var d docker
	err = startDaemon(ctx, path, engineStart, func() (err error) {
		d, err = dialEngine(ctx)
		return err
	}, bin)
	return d, err
}

// installTools installs the packages of those tools that are missing. It asks nothing.
func installTools(ctx context.Context, tools []tool, log io.Writer) error {
	var missing []string
	for _, t := range tools {
		if t.missing() && !slices.Contains(missing, t.pkg) {
			missing = append(missing, t.pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	names := strings.Join(missing, " ")
	release, err := os.ReadFile("/etc/os-release")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if os.Geteuid() != 0 || !bytes.Contains(release, []byte("debian")) {
		return fmt.Errorf("the lab needs %s; hint: install them, or run lab as root on Debian or Ubuntu so that it can", names)
	}
	fmt.Fprintf(log, "installing %s\n", names)
	// A fresh machine has no package lists.
	if err := aptGet(ctx, "update"); err != nil {
		return err
	}
	return aptGet(ctx, append([]string{"install", "-y", "--no-install-recommends"}, missing...)...)
}

func aptGet(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get %s: %w", args[0], withOutput(err, tail(string(out), 15)))
	}
	return nil
}

// tail is the last n lines of s.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
