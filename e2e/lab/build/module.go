package build

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// module is a folder under e2e/components and what to build in it.
type module struct {
	dir      string
	programs []string // package path, or path=NAME
	tags     string
	vars     []string // for the linker: package.variable=value
}

// module is a step that holds the module's programs, by name.
func (b *builder) module(m module) (*step, error) {
	source := filepath.Join(b.ComponentsDir, m.dir)
	s := &step{name: m.dir + "-" + b.Arch, inputs: []string{b.goVersion, fmt.Sprint(m)}}
	// go.mod and go.sum stand for everything that the module depends on.
	err := filepath.WalkDir(source, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(name, "_test.go") {
			return err
		}
		data, err := os.ReadFile(name)
		s.inputs = append(s.inputs, strings.TrimPrefix(name, source), string(data))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read component %s: %w; hint: run from the source tree", m.dir, err)
	}
	s.make = func(ctx context.Context, dir string) error { return b.compile(ctx, m, source, dir) }
	return s, nil
}

// compile builds all programs of a module in one go build, which then compiles shared packages once.
func (b *builder) compile(ctx context.Context, m module, source, dir string) error {
	// -trimpath and no build ID: the same program wherever it is built.
	ldflags := "-s -w -buildid="
	for _, v := range m.vars {
		ldflags += " -X " + v
	}
	args := []string{"build", "-v", "-trimpath", "-buildvcs=false", "-tags=" + m.tags, "-ldflags=" + ldflags, "-o", dir + "/"}
	var renames [][2]string
	for _, p := range m.programs {
		pkg, name, renamed := strings.Cut(p, "=")
		args = append(args, pkg)
		if renamed {
			made, err := b.programName(ctx, source, pkg)
			if err != nil {
				return err
			}
			renames = append(renames, [2]string{made, name})
		}
	}
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir = source
	command.Env = b.goEnv()
	if err := b.watch(ctx, m.dir, command); err != nil {
		return err
	}
	for _, r := range renames {
		if err := os.Rename(filepath.Join(dir, r[0]), filepath.Join(dir, r[1])); err != nil {
			return err
		}
	}
	return nil
}

// watch runs go build and reports its progress.
func (b *builder) watch(ctx context.Context, name string, command *exec.Cmd) error {
	var progress buildProgress
	var reporter sync.WaitGroup
	reporting, stop := context.WithCancel(ctx)
	tick := time.NewTicker(progressEvery)
	reporter.Go(func() { progress.report(reporting, b.Out, name, tick.C) })
	err := run(command, &progress)
	stop()
	tick.Stop()
	reporter.Wait()
	return err
}

// goEnv leaves nothing of the caller's Go settings but where modules come from and where they are kept. Compilers live for a
// moment only, and with memory to waste they are faster.
func (b *builder) goEnv() []string {
	return append(os.Environ(), "GOGC=400", "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+b.Arch, "GOEXPERIMENT=", "GOAMD64=", "GOARM64=")
}

// programName is what go build calls the program of a package: its last element that is not a major version.
func (b *builder) programName(ctx context.Context, dir, pkg string) (string, error) {
	if pkg == "." {
		// In the product's module the package has a path, in a module of its own that is the module's.
		full, err := output(ctx, dir, b.goEnv(), "go", "list", ".")
		if err != nil {
			return "", err
		}
		pkg = full
	}
	name := path.Base(pkg)
	if len(name) > 1 && name[0] == 'v' && strings.Trim(name[1:], "0123456789") == "" {
		name = path.Base(path.Dir(pkg))
	}
	return name, nil
}

const progressEvery = 5 * time.Second

// buildProgress counts what go build -v prints, a line per package compiled or module downloaded, and reports now and
// then: also while the linker works, which says nothing for a minute.
type buildProgress struct {
	compiled, downloaded atomic.Int64
}

func (p *buildProgress) line(text string) {
	if strings.HasPrefix(text, "go: downloading") {
		p.downloaded.Add(1)
	} else {
		p.compiled.Add(1)
	}
}

// report writes a line per tick until ctx ends.
func (p *buildProgress) report(ctx context.Context, out io.Writer, name string, tick <-chan time.Time) {
	start := time.Now()
	for {
		select {
		case <-tick:
			fmt.Fprintf(out, "%s: %d modules downloaded, %d packages compiled, %s\n",
				name, p.downloaded.Load(), p.compiled.Load(), time.Since(start).Round(time.Second))
		case <-ctx.Done():
			return
		}
	}
}

// run runs a command, passing on its lines as they come. Its error has the last lines, where tools say what went wrong.
func run(command *exec.Cmd, progress interface{ line(string) }) error {
	reader, writer := io.Pipe()
	command.Stdout, command.Stderr = writer, writer
	var tail []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(reader); lines.Scan(); {
			progress.line(lines.Text())
			tail = append(tail, lines.Text())
			tail = tail[max(0, len(tail)-15):]
		}
		_, _ = io.Copy(io.Discard, reader) // a line longer than a Scanner's must not block the command
	}()
	err := command.Run()
	err = errors.Join(err, writer.Close())
	<-done
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", command.Args[0]+" "+command.Args[1], err, strings.Join(tail, "\n"))
	}
	return nil
}

// output runs a command for the one line that it prints.
func output(ctx context.Context, dir string, env []string, argv ...string) (string, error) {
	command := exec.CommandContext(ctx, argv[0], argv[1:]...)
	command.Dir, command.Env = dir, env
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w %s", strings.Join(argv, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(bytes.TrimSpace(out)), nil
}
