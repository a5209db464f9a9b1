package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// docker runs the Docker client. Every call is an argv; nothing secret is ever part of one.
type docker struct {
	bin string
}

// run runs one client command with stdin (nil: none) and returns its standard output. The error names the command and
// carries what it wrote to standard error.
func (d docker) run(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, d.bin, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w", args[0], withOutput(err, stderr.String()))
	}
	return stdout.String(), nil
}

// lines is run for commands that print one record per line.
func (d docker) lines(ctx context.Context, args ...string) ([]string, error) {
	out, err := d.run(ctx, nil, args...)
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(out, func(r rune) bool { return r == '\n' }), nil
}

// withOutput adds what a command said to the error it ended with.
func withOutput(err error, stderr string) error {
	if said := strings.TrimSpace(stderr); said != "" {
		return fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// lookPath finds a program in PATH, and where root's programs live when PATH leaves that out.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/local/sbin/", "/usr/sbin/", "/sbin/"} {
		if info, statErr := os.Stat(dir + name); statErr == nil && info.Mode()&0o111 != 0 {
			return dir + name, nil
		}
	}
	return "", err
}
