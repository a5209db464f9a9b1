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
		f, err := os.Open(*p)
		if err != nil {
			v.errorf(path, "paths are relative to the document's folder", "%v", err)
			return
		}
		f.Close()
	})
	for i, h := range c.Spec.Hosts {
		// ssh refuses a private key that others can read; a password is worth no less.
		if info, err := os.Stat(h.SSH.SudoPasswordFile); err == nil && info.Mode().Perm()&0o077 != 0 {
			v.errorf(fmt.Sprintf("spec.hosts[%d].ssh.sudoPasswordFile", i), "chmod 600 "+h.SSH.SudoPasswordFile, "others can read the password file")
		}
	}
	return v.errs.err()
}
