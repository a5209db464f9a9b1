package manifests

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
)

// RegistriesDir is where containerd looks for what it is told of registries, a folder for each, whenever it pulls an image.
// In its configuration it stands alone, and not in a list with Docker's folder as in the default.
// Source: https://github.com/containerd/containerd/blob/main/docs/hosts.md
const RegistriesDir = "/etc/containerd/certs.d"

// pulls is what mirrors are good for.
const pulls = `capabilities = ["pull", "resolve"]` + "\n"

// RegistryFiles are what containerd is told of a registry: its hosts.toml and, when there is a ca (PEM), the certificates in
// it. Only root can read the former when it holds credentials. r has been validated.
//
// The last host that containerd asks is the server of the file, and without one the registry itself. So a mirror that must
// be used is the server.
func RegistryFiles(r config.Registry, ca []byte, credentials Credentials) ([]host.File, error) {
	f := registryFile{mode: fileMode, credentials: credentials}
	dir := RegistriesDir + "/" + r.Name
	var files []host.File
	if len(ca) > 0 {
		certs, err := onlyCertificates(ca)
		if err != nil {
			return nil, err
		}
		f.ca = dir + "/ca.crt"
		files = []host.File{{Path: f.ca, Mode: fileMode, Data: append([]byte(MarkComment+"spec.registries has it.\n"), certs...)}}
	}
	mirrors := make([]config.Mirror, len(r.Mirrors))
	for i, text := range r.Mirrors {
		var err error
		if mirrors[i], err = config.ParseMirror(text); err != nil {
			return nil, fmt.Errorf("a mirror of %s: %w", r.Name, err)
		}
	}
	fmt.Fprintf(&f.text, MarkComment+"containerd asks for the images of %s as this says.\n", r.Name)
	if last := len(mirrors) - 1; r.Exclusive && last >= 0 {
		fmt.Fprintf(&f.text, "server = %q\n%s", mirrors[last].Root(), pulls)
		f.host(mirrors[last], "header")
		mirrors = mirrors[:last]
	} else {
		server := config.Mirror{Host: r.Server()}
		fmt.Fprintf(&f.text, "server = %q\n", "https://"+server.Host)
		f.host(server, "header")
	}
	for _, m := range mirrors {
		table := fmt.Sprintf("host.%q", m.Root())
		fmt.Fprintf(&f.text, "\n[%s]\n%s", table, pulls)
		f.host(m, table+".header")
	}
	if f.err != nil {
		return nil, f.err
	}
	if len(credentials) > 0 && f.mode != secretMode {
		return nil, fmt.Errorf("there are no credentials for any host of the registry %s; hint: docker login there, or take credentialsFile out", r.Name)
	}
	return append(files, host.File{Path: dir + "/hosts.toml", Mode: f.mode, Data: []byte(f.text.String())}), nil
}

// registryFile is a hosts.toml as it grows.
type registryFile struct {
	text        strings.Builder
	mode        fs.FileMode
	ca          string
	credentials Credentials
	err         error
}

// host adds what is said of a host in the table that is open; header is the name of the one for its headers.
func (f *registryFile) host(m config.Mirror, header string) {
	if m.Folder != "" {
		f.text.WriteString("override_path = true\n")
	}
	if f.ca != "" && !m.Plain { // containerd tries https at a plain host for which there is an authority
		fmt.Fprintf(&f.text, "ca = %q\n", f.ca)
	}
	authorization, err := f.credentials.Authorization(m.Host)
	switch {
	case err != nil:
		f.err = errors.Join(f.err, err)
	case authorization == "":
	case m.Plain:
		f.err = errors.Join(f.err, fmt.Errorf("the credentials for %s would go over the network for all to read; hint: write https://, or take them out of the credentialsFile", m.Host))
	default:
		f.mode = secretMode
		fmt.Fprintf(&f.text, "[%s]\nAuthorization = %q\n", header, authorization)
	}
}

// onlyCertificates leaves out what else a PEM file may hold: a key must not come to the hosts.
func onlyCertificates(data []byte) ([]byte, error) {
	var out bytes.Buffer
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
		}
	}
	if out.Len() == 0 {
		return nil, errors.New("it holds no certificate; hint: give the authority's, in PEM form")
	}
	return out.Bytes(), nil
}
