package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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

// startEngine starts dockerd in a session of its own, so that it outlives the lab command, and waits until it answers.
func startEngine(ctx context.Context, cacheDir string, log io.Writer) (docker, error) {
	bin, err := lookPath("dockerd")
	if err != nil {
		return docker{}, fmt.Errorf("%w; hint: install Docker", err)
	}
	path := filepath.Join(cacheDir, "dockerd.log")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return docker{}, err
	}
	defer file.Close()
	fmt.Fprintf(log, "starting dockerd, log in %s\n", path)
	// What this process was handed besides its standard streams is not dockerd's to keep open: a lock, a pipe that
	// somebody reads to its end. Kernels before 5.11 cannot, and then it stays open.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	cmd := exec.Command(bin)
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return docker{}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	ctx, cancel := context.WithTimeout(ctx, engineStart)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if d, err := dialEngine(ctx); err == nil {
			return d, nil
		}
		select {
		case <-tick.C:
		case err := <-ended:
			return docker{}, fmt.Errorf("dockerd ended: %w; hint: see %s", err, path)
		case <-ctx.Done():
			return docker{}, fmt.Errorf("dockerd does not answer: %w; hint: see %s", ctx.Err(), path)
		}
	}
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
