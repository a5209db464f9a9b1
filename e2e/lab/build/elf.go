package build

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// closure finds the shared libraries, and the loader, that ELF files below root need, as paths below root. It reads the
// files rather than asking ldd, which would run them and answer with this machine's libraries. A library that is a link
// is listed under the name that the loader asks for; whoever copies follows the link.
func closure(root, triplet string, files []string) ([]string, error) {
	var needed []string
	seen := map[string]bool{}
	for queue := slices.Clone(files); len(queue) > 0; queue = queue[1:] {
		file, err := resolve(root, queue[0])
		if err != nil {
			return nil, err
		}
		libraries, loader, err := imports(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", queue[0], err)
		}
		for _, library := range libraries {
			path, err := findLibrary(root, triplet, library)
			if err != nil {
				return nil, fmt.Errorf("%s needs %s: %w", queue[0], library, err)
			}
			if !seen[path] {
				seen[path] = true
				needed = append(needed, path)
				queue = append(queue, path)
			}
		}
		if loader != "" && !seen[loader] {
			seen[loader] = true
			needed = append(needed, loader)
		}
	}
	return needed, nil
}

// findLibrary looks where Debian's loader looks without a cache.
func findLibrary(root, triplet, library string) (string, error) {
	for _, dir := range []string{"lib", "usr/lib"} {
		path := filepath.Join(dir, triplet, library)
		if _, err := os.Lstat(filepath.Join(root, path)); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", errors.New("no package has it")
}

// imports returns the libraries of an ELF file and, for a program, the path of its loader below the root.
func imports(path string) (libraries []string, loader string, err error) {
	file, err := elf.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type != elf.PT_INTERP {
			continue
		}
		name := make([]byte, segment.Filesz)
		if _, err := segment.ReadAt(name, 0); err != nil {
			return nil, "", err
		}
		loader = string(name[1 : len(name)-1]) // without the leading slash and the final NUL
	}
	libraries, err = file.ImportedLibraries()
	return libraries, loader, err
}

// resolve follows links from a path below root, an absolute target being one below root too: opened directly, it would
// be this machine's file.
func resolve(root, path string) (string, error) {
	for range 8 {
		target, err := os.Readlink(filepath.Join(root, path))
		switch {
		case err != nil:
			// Not a link, or not there: the caller's open tells.
			return filepath.Join(root, path), nil
		case filepath.IsAbs(target):
			path = target
		default:
			path = filepath.Join(filepath.Dir(path), target)
		}
	}
	return "", fmt.Errorf("%s: too many links", path)
}
