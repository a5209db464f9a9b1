package config

import (
	"fmt"
	"os"
)

// ValidateFiles says which of the files that c names cannot be read on this machine, as Errors, and reads those that components
// of the control plane are to have. It is apart from Validate,
// so that a document can be checked where its keys are not.
func ValidateFiles(c *Cluster) error {
	v := &validator{c: c}
	c.eachPath(func(path string, p *string) {
		if *p == "" {
			return
		}
		if err := readable(*p); err != nil {
			v.errorf(path, "relative paths start at the document's folder", "%v", err)
		}
	})
	for i, h := range c.Spec.Hosts {
		// ssh refuses a private key that others can read; a password is worth no less.
		if info, err := os.Stat(h.SSH.SudoPasswordFile); err == nil && info.Mode().Perm()&0o077 != 0 {
			v.errorf(fmt.Sprintf("spec.hosts[%d].ssh.sudoPasswordFile", i), "chmod 600 "+h.SSH.SudoPasswordFile, "others can read the password file")
		}
	}
	for _, component := range c.components() {
		for i := range component.ExtraVolumes {
			v.content(fmt.Sprintf("%s.extraVolumes[%d].file", component.path, i), &component.ExtraVolumes[i])
		}
	}
	return v.errs.err()
}

// maxFile is how large a file may be that a component reads: as large as a ConfigMap's.
const maxFile = 1 << 20

// content reads a volume's file.
func (v *validator) content(path string, m *HostPathMount) {
	if m.File == "" || readable(m.File) != nil {
		return // readable has said so
	}
	info, err := os.Stat(m.File)
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		v.errorf(path, "name a file", "%s is not a regular file", m.File)
		return
	case info.Size() > maxFile:
		v.errorf(path, "the most is 1 MiB", "%s has %d bytes", m.File, info.Size())
		return
	}
	if m.Content, err = os.ReadFile(m.File); err != nil {
		v.errorf(path, "", "%v", err)
	}
}

// readable opens regular files and folders only: opening a pipe would wait for its other end.
func readable(path string) error {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() && !info.IsDir() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}
