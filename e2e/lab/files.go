package lab

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
)

//go:embed templates
var templateFiles embed.FS

// folder is what the templates of a lab's files see.
type folder struct {
	Name                      string // of the cluster
	KubernetesVersion         string
	CgroupV1                  bool
	Hosts                     []login
	Key, KnownHosts, Password string // absolute paths
}

// login is how one host is reached.
type login struct {
	Host
	User string
}

// writeFiles writes what the folder's user needs.
func (l *Lab) writeFiles(ctx context.Context, o Options) error {
	cgroups, err := l.d.run(ctx, nil, "info", "--format", "{{.CgroupVersion}}")
	if err != nil {
		return err
	}
	f := folder{
		Name: l.network(), KubernetesVersion: o.KubernetesVersion, CgroupV1: strings.TrimSpace(cgroups) == "1",
		Key: l.Path(KeyFile), KnownHosts: l.Path(KnownHosts), Password: l.Path(PasswordFile),
	}
	for _, h := range l.Hosts {
		user := o.User
		if own, ok := o.HostUsers[h.Name]; ok {
			user = own
		}
		f.Hosts = append(f.Hosts, login{Host: h, User: user})
	}
	for _, name := range []string{ClusterFile, SSHConfig, KnownHosts} {
		data, err := render(name, f)
		if err != nil {
			return err
		}
		if err := writeFile(l.Path(name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// render fills the template of one of the folder's files.
func render(name string, f folder) ([]byte, error) {
	t, err := template.New(name+".tmpl").Option("missingkey=error").Funcs(template.FuncMap{
		"yaml":      strconv.Quote, // a YAML double-quoted scalar knows Go's escapes
		"sshConfig": quoteSSHConfig,
	}).ParseFS(templateFiles, "templates/"+name+".tmpl")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, f)
	return out.Bytes(), err
}

// quoteSSHConfig makes a path an argument of ssh_config, where a percent sign begins a token (ssh_config(5), TOKENS).
func quoteSSHConfig(path string) string {
	return `"` + strings.ReplaceAll(path, "%", "%%") + `"`
}

// renderHosts is /etc/hosts of every host.
func renderHosts(hosts []Host) string {
	var out strings.Builder
	out.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	for _, h := range hosts {
		fmt.Fprintf(&out, "%s %s\n", h.Address, h.Name)
	}
	return out.String()
}

// writeFile replaces a file in one step.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if err := temp.Chmod(mode); err != nil {
		return err
	}
	if _, err := temp.Write(data); err != nil {
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
