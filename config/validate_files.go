package config

import (
	"fmt"
	"os"
)

// ValidateFiles says which of the files that c names cannot be read on this machine, as Errors. It is apart from Validate,
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
	return v.errs.err()
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
