package manifests_test

import (
	"encoding/pem"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
)

// testCA is no certificate, and looks like one.
var testCA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("authority")})

const testAuths = `{"auths": {
	"mirror.example.org": {"auth": "b3BzOnMzY3JldA=="},
	"https://index.docker.io/v1/": {"username": "hub", "password": "p\"w"},
	"registry.example.org:5000": {"registrytoken": "t0ken"},
	"plain.example.org": {"auth": "b3BzOnMzY3JldA=="},
	"token.example.org": {"auth": "PHRva2VuPjo=", "identitytoken": "x"},
	"helper.example.org": {}, "broken.example.org": {"auth": "%"}, "part.example.org/team": {"auth": "b3BzOnMzY3JldA=="}
}, "credsStore": "desktop"}`

func TestRegistryFiles(t *testing.T) {
	auths := must[manifests.Credentials](t)(manifests.ParseCredentials([]byte(testAuths)))
	tests := []struct {
		name     string
		registry config.Registry
		ca       []byte
		auths    manifests.Credentials
	}{
		{"mirrors", config.Registry{Name: "registry.k8s.io", Mirrors: []string{"https://mirror.example.org/k8s", "http://10.0.0.9:5000"}}, testCA, nil},
		{"exclusive", config.Registry{Name: "registry.k8s.io", Exclusive: true, Mirrors: []string{"https://mirror.example.org/v2/k8s", "https://second.example.org"}}, testCA, auths},
		{"one-exclusive", config.Registry{Name: "docker.io", Exclusive: true, Mirrors: []string{"http://10.0.0.9:5000/hub"}}, testCA, nil},
		{"authority", config.Registry{Name: "registry.example.org:5000"}, testCA, nil},
		{"credentials", config.Registry{Name: "registry.example.org:5000"}, nil, auths},
		{"hub", config.Registry{Name: "docker.io", Mirrors: []string{"https://mirror.example.org"}}, nil, auths},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files, err := manifests.RegistryFiles(tt.registry, tt.ca, tt.auths)
			if err != nil {
				t.Fatal(err)
			}
			dir := manifests.RegistriesDir + "/" + tt.registry.Name
			for _, f := range files {
				golden(t, "registries/"+tt.name+strings.TrimPrefix(f.Path, dir), f)
				if !manifests.Marked(f.Data) {
					t.Errorf("%s carries no mark", f.Path)
				}
			}
			checkHosts(t, tt.registry, files[len(files)-1])
		})
	}
}

// checkHosts reads a hosts.toml as containerd does: what it cannot read, it passes over, and asks the registry itself.
func checkHosts(t *testing.T, r config.Registry, f host.File) {
	t.Helper()
	type table struct {
		Server       string            `toml:"server"`
		Capabilities []string          `toml:"capabilities"`
		CA           string            `toml:"ca"`
		OverridePath bool              `toml:"override_path"`
		Header       map[string]string `toml:"header"`
		Host         map[string]table  `toml:"host"`
	}
	var root table
	if err := toml.NewDecoder(strings.NewReader(string(f.Data))).DisallowUnknownFields().Decode(&root); err != nil {
		t.Fatalf("%v in\n%s", err, f.Data)
	}
	asked := len(root.Host)
	if r.Exclusive {
		asked++
		if strings.Contains(root.Server, r.Name) || strings.Contains(root.Server, r.Server()) {
			t.Errorf("the registry itself is asked: %s", root.Server)
		}
	} else if root.Server != "https://"+r.Server() || len(root.Capabilities) > 0 {
		t.Errorf("the server is %s, which can %q", root.Server, root.Capabilities)
	}
	if asked != len(r.Mirrors) {
		t.Errorf("%d mirrors are asked, want %d", asked, len(r.Mirrors))
	}
	secret := len(root.Header) > 0
	for url, m := range root.Host {
		secret = secret || len(m.Header) > 0
		if diff := cmp.Diff([]string{"pull", "resolve"}, m.Capabilities); diff != "" {
			t.Errorf("%s (-want +got):\n%s", url, diff)
		}
		if m.OverridePath == strings.HasSuffix(url, "/v2") {
			t.Errorf("%s: override_path is %t", url, m.OverridePath)
		}
	}
	if readable := f.Mode&0o077 != 0; readable == secret {
		t.Errorf("mode %v, with credentials: %t", f.Mode, secret)
	}
}

func TestRegistryFilesThatCannotBe(t *testing.T) {
	auths := must[manifests.Credentials](t)(manifests.ParseCredentials([]byte(testAuths)))
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("key")})
	for _, tt := range []struct {
		name  string
		r     config.Registry
		ca    []byte
		auths manifests.Credentials
		want  string
	}{
		{"a key instead of a certificate", config.Registry{Name: "a"}, key, nil, "it holds no certificate; hint: "},
		{"credentials of others", config.Registry{Name: "a"}, nil, auths, "no credentials for any host of the registry a; hint: "},
		{"credentials for a part", config.Registry{Name: "part.example.org"}, nil, auths, "no credentials for any host of the registry part.example.org"},
		{"credentials in the open", config.Registry{Name: "a", Mirrors: []string{"http://plain.example.org"}}, nil, auths, "for all to read; hint: "},
		{"an identity token", config.Registry{Name: "token.example.org"}, nil, auths, "are an identity token, which containerd cannot be given; hint: "},
		{"a helper", config.Registry{Name: "helper.example.org"}, nil, auths, "are kept by a program of this machine (credsStore); hint: "},
		{"nonsense", config.Registry{Name: "broken.example.org"}, nil, auths, "are not the base64 of user:password; hint: "},
		{"a mirror that is none", config.Registry{Name: "a", Mirrors: []string{"https://ops:s3cret@m"}}, nil, nil, "a mirror of a: it holds a name or a password; hint: "},
	} {
		_, err := manifests.RegistryFiles(tt.r, tt.ca, tt.auths)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	// What stands beside certificates does not travel.
	files := must[[]host.File](t)(manifests.RegistryFiles(config.Registry{Name: "a"}, append(key, testCA...), nil))
	if strings.Contains(string(files[0].Data), "KEY") || !strings.Contains(string(files[0].Data), string(testCA)) {
		t.Errorf("the authority is\n%s", files[0].Data)
	}
}

func TestParseCredentialsThatAreNone(t *testing.T) {
	for _, text := range []string{"", "{", `{"auths": "s3cret"}`, `{"auths": {"a": "s3cret"}}`, "{}", `{"credsStore": "s3cret"}`} {
		if all, err := manifests.ParseCredentials([]byte(text)); err == nil || !strings.Contains(err.Error(), "; hint: docker login") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v, %v", text, all, err)
		}
	}
}

func FuzzParseCredentials(f *testing.F) {
	for _, text := range []string{testAuths, `{"auths":{"https://a/v1/":{"auth":"YTpi"},"a":{"username":"x"}}}`, `{"auths":{"docker.io":{"registrytoken":"a\nb"}}}`, "[]"} {
		f.Add([]byte(text), "registry.example.org:5000")
	}
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		all, err := manifests.ParseCredentials(data)
		if err != nil {
			return
		}
		header, err := all.Authorization(name)
		if err == nil && strings.ContainsFunc(header, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q is no header", header)
		}
		if files, err := manifests.RegistryFiles(config.Registry{Name: "registry.example.org:5000"}, nil, all); err == nil {
			checkHosts(t, config.Registry{Name: "registry.example.org:5000"}, files[0])
		}
	})
}
