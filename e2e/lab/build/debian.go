package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// debianSet is a few programs of Debian packages with just what they need to run.
type debianSet struct {
	name     string
	packages []string // the first names the version
	programs []string // paths in the packages, without the leading slash
	plugins  []string // globs of files loaded by name; TRIPLET is the architecture's library folder
	links    map[string]string
	bare     bool // the programs alone, libraries being the host's
}

// triplets name library folders, by Go's architecture.
var triplets = map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

const versionName = ".version" // in a set's folder: the first package's version

// debian is a step that holds a root folder with the set's files.
func (b *builder) debian(set debianSet) *step {
	return &step{
		name:   set.name + "-" + b.Arch,
		inputs: []string{fmt.Sprint(set)}, // fmt sorts maps
		make:   func(ctx context.Context, dir string) error { return b.unpack(ctx, set, dir) },
	}
}

// unpack downloads the packages and all that they depend on, then keeps the programs and their libraries: a fifth of the
// bytes, and no shell in the image.
func (b *builder) unpack(ctx context.Context, set debianSet, dir string) error {
	work, err := os.MkdirTemp(b.CacheDir, unfinished+"*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	packages, err := b.download(ctx, work, set.packages)
	if err != nil {
		return err
	}
	root := filepath.Join(work, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	for _, file := range packages {
		if err := run(exec.CommandContext(ctx, "dpkg-deb", "--extract", file, root), quiet{}); err != nil {
			return err
		}
		if strings.HasPrefix(filepath.Base(file), set.packages[0]+"_") {
			version, err := output(ctx, "", nil, "dpkg-deb", "--field", file, "Version")
			if err != nil {
				return err
			}
			// An epoch is Debian's own affair, and its colon fits in few places.
			_, afterEpoch, found := strings.Cut(version, ":")
			if !found {
				afterEpoch = version
			}
			if err := os.WriteFile(filepath.Join(dir, versionName), []byte(afterEpoch), 0o644); err != nil {
				return err
			}
		}
	}
	return set.pick(root, dir, triplets[b.Arch])
}

// download fetches packages and their dependencies into work. apt gets a state of its own there, with nothing installed:
// so it resolves every dependency, needs no root, can be asked for another architecture, and leaves this machine's
// package lists alone.
func (b *builder) download(ctx context.Context, work string, packages []string) ([]string, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil, errors.New("apt-get is missing; hint: build on Debian or Ubuntu, or in a container of it")
	}
	archives := filepath.Join(work, "cache", "archives")
	for _, dir := range []string{filepath.Join(work, "state", "lists", "partial"), filepath.Join(archives, "partial")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	status := filepath.Join(work, "state", "status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return nil, err
	}
	options := []string{
		"-o", "Dir::State=" + filepath.Join(work, "state"),
		"-o", "Dir::State::status=" + status,
		"-o", "Dir::Cache=" + filepath.Join(work, "cache"),
		"-o", "APT::Architecture=" + b.Arch,
		"-o", "APT::Architectures=" + b.Arch,
		"-o", "APT::Sandbox::User=", // the user who runs this can read the folder, _apt perhaps not
		"-o", "Debug::NoLocking=1",
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::Retries=3",
	}
	for _, arguments := range [][]string{
		{"update"},
		append([]string{"install", "--yes", "--download-only", "--no-install-recommends"}, packages...),
	} {
		command := exec.CommandContext(ctx, "apt-get", slices.Concat(options, arguments)...)
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
		if err := run(command, quiet{}); err != nil {
			return nil, err
		}
	}
	return filepath.Glob(filepath.Join(archives, "*.deb"))
}

type quiet struct{}

func (quiet) line(string) {}

// pick copies the programs, the plugins and the libraries of both from an unpacked root, and adds the links.
func (set debianSet) pick(root, dir, triplet string) error {
	wanted := slices.Clone(set.programs)
	for _, plugin := range set.plugins {
		found, err := filepath.Glob(filepath.Join(root, strings.ReplaceAll(plugin, "TRIPLET", triplet)))
		if err != nil {
			return err
		}
		for _, file := range found {
			wanted = append(wanted, strings.TrimPrefix(file, root+"/"))
		}
	}
	if !set.bare {
		libraries, err := closure(root, triplet, wanted)
		if err != nil {
			return err
		}
		wanted = append(wanted, libraries...)
	}
	for _, name := range wanted {
		from, err := resolve(root, name)
		if err != nil {
			return err
		}
		if err := copyFile(from, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for name, target := range set.links {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
