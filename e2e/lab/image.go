package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// What is on a host before myadm comes: a minimal Debian server.
const (
	suite         = "bookworm"
	debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

var hostPackages = []string{
	"systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "iproute2", "iputils-ping", "procps", "kmod", "ca-certificates",
}

//go:embed all:image
var imageFiles embed.FS

// imageTag names the host image by the content of its recipe, so that a changed recipe is a new image.
func imageTag() (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, suite, hostPackages)
	err := fs.WalkDir(imageFiles, "image", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := imageFiles.ReadFile(path)
		fmt.Fprintf(sum, "%s %d\n%s", path, len(data), data)
		return err
	})
	return "myadm-lab-host:" + hex.EncodeToString(sum.Sum(nil))[:12], err
}

// ensureImage returns the tag of the host image, which it makes (in about a minute) if this machine lacks it.
func ensureImage(ctx context.Context, d docker, cacheDir string, log io.Writer) (string, error) {
	tag, err := imageTag()
	if err != nil {
		return "", err
	}
	if err := removeStale(cacheDir); err != nil {
		return "", err
	}
	if found, err := d.lines(ctx, "images", "--quiet", tag); err != nil || len(found) > 0 {
		return tag, err
	}
	if os.Geteuid() != 0 {
		return "", errors.New("the host image is missing and only root can make it; hint: run lab up once as root")
	}
	if err := installTools(ctx, imageTools, log); err != nil {
		return "", err
	}
	root, err := os.MkdirTemp(cacheDir, "rootfs-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(root)
	fmt.Fprintf(log, "making the host image %s, once: Debian %s with systemd and sshd\n", tag, suite)
	if err := bootstrap(ctx, root, cacheDir, log); err != nil {
		return "", err
	}
	if err := customize(ctx, root); err != nil {
		return "", err
	}
	return tag, importRoot(ctx, d, root, tag)
}

// removeStale removes what a killed build left.
func removeStale(cacheDir string) error {
	stale, err := filepath.Glob(filepath.Join(cacheDir, "rootfs-*"))
	if err != nil {
		return err
	}
	for _, dir := range stale {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("%w; hint: run lab up once as root", err)
		}
	}
	return nil
}

// bootstrap fills root with Debian, whose signatures it checks.
func bootstrap(ctx context.Context, root, cacheDir string, log io.Writer) error {
	bin, err := lookPath("debootstrap")
	if err != nil {
		return err
	}
	debs := filepath.Join(cacheDir, "debs") // so that a changed recipe downloads nothing again
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return err
	}
	args := []string{
		"--variant=minbase", "--include=" + strings.Join(hostPackages, ","), "--cache-dir=" + debs,
		"--keyring=" + debianKeyring, "--force-check-gpg", suite, root, // from debootstrap's own mirror
	}
	cmd := contained(exec.CommandContext(ctx, bin, args...))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	last := reportStages(out, log)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("debootstrap: %w", withOutput(err, last))
	}
	return nil
}

// reportStages turns debootstrap's line per package and step into a line per 40 packages of each step. It returns the
// last lines.
func reportStages(out io.Reader, log io.Writer) string {
	counts := map[string]int{} // by the step's verb
	var last []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		last = append(last[max(0, len(last)-9):], lines.Text())
		words := strings.Fields(lines.Text())
		if len(words) < 3 || words[0] != "I:" {
			continue
		}
		verb := words[1]
		counts[verb]++
		if n := counts[verb]; n%40 == 0 {
			fmt.Fprintf(log, "host image: %s package %d, %s\n", strings.ToLower(verb), n, words[2])
		}
	}
	return strings.Join(last, "\n")
}

// customize puts the lab's files into root and runs setup.sh there.
func customize(ctx context.Context, root string) error {
	files, err := fs.Sub(imageFiles, "image")
	if err != nil {
		return err
	}
	err = fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(root, path)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		data, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o644)
	})
	if err != nil {
		return err
	}
	cmd := contained(exec.CommandContext(ctx, "chroot", root, "/bin/sh", "/setup.sh"))
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("setup.sh: %w", withOutput(err, string(out)))
	}
	return os.Remove(filepath.Join(root, "setup.sh"))
}

// importRoot makes an image of root. It streams, so nothing is kept twice.
func importRoot(ctx context.Context, d docker, root, tag string) error {
	var stderr bytes.Buffer
	tar := exec.CommandContext(ctx, "tar", "--numeric-owner", "--sort=name", "-C", root, "-c", ".")
	tar.Stderr = &stderr
	out, err := tar.StdoutPipe()
	if err != nil {
		return err
	}
	if err := tar.Start(); err != nil {
		return err
	}
	_, importErr := d.run(ctx, out, "import", "--change", `ENTRYPOINT ["/usr/lib/lab/init"]`, "-", tag)
	if err := tar.Wait(); err != nil && importErr == nil {
		return fmt.Errorf("tar: %w", withOutput(err, stderr.String()))
	}
	return importErr
}

// contained gives a command processes and mounts of its own, all of which end with it, however it ends: when ctx does,
// and when lab is killed.
func contained(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	return cmd
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
