package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Registry is what the hosts' containerd is told of an image registry.
type Registry struct {
	Name            string   `json:"name"`                      // as references begin with it: registry.k8s.io, docker.io, registry.example.org:5000
	Mirrors         []string `json:"mirrors,omitempty"`         // URLs, https://host[:port][/folder], asked in this order before the registry itself
	CAFile          string   `json:"caFile,omitempty"`          // an authority of the mirrors and the registry besides those that the hosts trust anyway; PEM
	CredentialsFile string   `json:"credentialsFile,omitempty"` // a docker config.json with what the mirrors and the registry ask for
	Exclusive       bool     `json:"exclusive,omitempty"`       // only the mirrors are asked
}

// Mirror is where a registry's images are to be had, too.
type Mirror struct {
	Host   string // host[:port]
	Plain  bool   // http and not https
	Folder string // in which the mirror keeps the registry's repositories: k8s for k8s/pause; empty for none
}

// Root is the URL under which the mirror's API (OCI distribution) has the registry's repositories.
func (m Mirror) Root() string {
	u := url.URL{Scheme: "https", Host: m.Host, Path: "/v2"}
	if m.Plain {
		u.Scheme = "http"
	}
	if m.Folder != "" {
		u.Path += "/" + m.Folder
	}
	return u.String()
}

// ParseMirror reads the URL of a mirror. A path is the folder in which the mirror keeps the registry's repositories, with
// or without the /v2 that the API puts before it. Its errors do not show the URL, which may hold a password.
func ParseMirror(text string) (Mirror, error) {
	const hint = "; hint: write https://host[:port][/folder]"
	u, err := url.Parse(text)
	if err != nil {
		return Mirror{}, fmt.Errorf("it is not a URL%s", hint)
	}
	folder := strings.Trim(u.Path, "/")
	if folder == "v2" || strings.HasPrefix(folder, "v2/") {
		folder = strings.Trim(strings.TrimPrefix(folder, "v2"), "/")
	}
	switch {
	case u.User != nil:
		return Mirror{}, fmt.Errorf("it holds a name or a password; hint: put them into credentialsFile")
	case u.Scheme != "https" && u.Scheme != "http":
		return Mirror{}, fmt.Errorf("it begins with neither https:// nor http://%s", hint)
	case !registryName.MatchString(u.Host) && !isHostPort(u.Host):
		return Mirror{}, fmt.Errorf("it names no host%s", hint)
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return Mirror{}, fmt.Errorf("it is more than a host and a folder%s", hint)
	case folder != "" && !imageFolder.MatchString(folder):
		return Mirror{}, fmt.Errorf("its path is not a folder of images%s", hint)
	}
	return Mirror{Host: u.Host, Plain: u.Scheme == "http", Folder: folder}, nil
}

// Server is the host[:port] that serves a registry: Docker Hub's images have another name than it.
func (r Registry) Server() string {
	if r.Name == DockerHub {
		return "registry-1.docker.io"
	}
	return r.Name
}

// DockerHub is the registry of references without one.
const DockerHub = "docker.io"

var (
	registryName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$`)
	imageFolder  = regexp.MustCompile(`^[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*$`) // see the reference grammar of distribution
)

// dockerHubNames are what else Docker Hub is called, though never in the references that a containerd resolves.
var dockerHubNames = []string{"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com"}

// isHostPort reports an IPv6 address in brackets, with or without a port; registryName takes all else.
func isHostPort(s string) bool {
	if addr, err := netip.ParseAddrPort(s); err == nil {
		return addr.Addr().Is6() && addr.Addr().Zone() == ""
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return err == nil && addr.Is6() && addr.Zone() == "" && strings.HasPrefix(s, "[")
}

func (v *validator) registries() {
	for i, r := range v.c.Spec.Registries {
		at := fmt.Sprintf("spec.registries[%d]", i)
		v.registryName(at+".name", r.Name)
		if slices.ContainsFunc(v.c.Spec.Registries[:i], func(o Registry) bool { return o.Name == r.Name }) {
			v.errorf(at+".name", "say all of it in one place", "there are two registries %s", r.Name)
		}
		var roots []string
		for j, text := range r.Mirrors {
			path := fmt.Sprintf("%s.mirrors[%d]", at, j)
			m, err := ParseMirror(text)
			switch {
			case err != nil:
				v.wrap(path, err)
			case slices.Contains(roots, m.Root()):
				v.errorf(path, "keep one of them", "%s is here twice", m.Root())
			default:
				roots = append(roots, m.Root())
			}
		}
		if r.Exclusive && len(r.Mirrors) == 0 {
			v.errorf(at+".exclusive", "name mirrors, or remove it", "there is no mirror to ask instead of the registry")
		}
		if len(r.Mirrors) == 0 && r.CAFile == "" && r.CredentialsFile == "" && !r.Exclusive {
			v.errorf(at, "give mirrors, caFile or credentialsFile, or remove it", "nothing is said of the registry")
		}
		v.localFile(at+".caFile", r.CAFile)
		v.localFile(at+".credentialsFile", r.CredentialsFile)
	}
}

func (v *validator) registryName(path, name string) {
	switch {
	case slices.Contains(dockerHubNames, name):
		v.errorf(path, "write "+DockerHub, "%s is Docker Hub under another name than images have it", name)
	case !registryName.MatchString(name) && !isHostPort(name):
		v.errorf(path, "write host[:port] as images begin with it, such as "+DefaultImageRepository, "it is not a registry's name")
	}
}

// localFile refuses a URL where a file of the operator's machine is wanted.
func (v *validator) localFile(path, file string) {
	if strings.Contains(file, "://") {
		v.errorf(path, "download it and name the file", "it is a URL and not a file")
	}
}
