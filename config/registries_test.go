package config

import (
	"net/url"
	"strings"
	"testing"
)

func TestParseMirror(t *testing.T) {
	for _, tt := range []struct{ text, root, want string }{
		{"https://mirror.example.org", "https://mirror.example.org/v2", ""},
		{"https://mirror.example.org/", "https://mirror.example.org/v2", ""},
		{"https://mirror.example.org/v2/", "https://mirror.example.org/v2", ""},
		{"https://mirror.example.org:5000/k8s", "https://mirror.example.org:5000/v2/k8s", ""},
		{"https://mirror.example.org/v2/proxies/registry.k8s.io/", "https://mirror.example.org/v2/proxies/registry.k8s.io", ""},
		{"http://10.0.0.9:5000", "http://10.0.0.9:5000/v2", ""},
		{"https://[fd00::9]:5000/k8s", "https://[fd00::9]:5000/v2/k8s", ""},
		{"https://mirror.example.org/v2k", "https://mirror.example.org/v2/v2k", ""},
		{"mirror.example.org", "", "begins with neither"},
		{"ftp://mirror.example.org", "", "begins with neither"},
		{"https://", "", "names no host"},
		{"https:///k8s", "", "names no host"},
		{"https://Mirror", "", "names no host"},
		{"https://ops:s3cret@mirror.example.org", "", "credentialsFile"},
		{"https://ops:s3cret%@mirror.example.org", "", "not a URL"},
		{"https://mirror.example.org/k8s?ns=x", "", "more than a host"},
		{"https://mirror.example.org/#", "", "more than a host"},
		{"https://mirror.example.org/K8s", "", "not a folder"},
		{"https://mirror.example.org/a/../b", "", "not a folder"},
		{"https://mirror.example.org/a\"b", "", "not a folder"},
	} {
		m, err := ParseMirror(tt.text)
		switch {
		case tt.want == "" && (err != nil || m.Root() != tt.root):
			t.Errorf("%s: got %s, %v, want %s", tt.text, m.Root(), err, tt.root)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "; hint: ")):
			t.Errorf("%s: got %v, want %q", tt.text, err, tt.want)
		case err != nil && strings.Contains(err.Error(), "s3cret"):
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func TestRegistryServer(t *testing.T) {
	for name, want := range map[string]string{"docker.io": "registry-1.docker.io", "registry.k8s.io": "registry.k8s.io", "a:5000": "a:5000"} {
		if got := (Registry{Name: name}).Server(); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestValidateRegistries(t *testing.T) {
	tests := []struct{ name, spec, want string }{
		{"as it should be", `registries: [{name: registry.k8s.io, mirrors: [https://a/k8s, http://b:5000], exclusive: true}, {name: "[fd00::1]:5000", caFile: ca.crt}, {name: docker.io, credentialsFile: config.json}]`, ""},
		{"names", `registries: [{mirrors: [https://a]}, {name: https://x, mirrors: [https://a]}, {name: a/b, mirrors: [https://a]}, {name: index.docker.io, mirrors: [https://a]}, {name: A, mirrors: [https://a]}, {name: .., mirrors: [https://a]}]`, `
4:15: spec.registries[0].name: it is not a registry's name; hint: write host[:port] as images begin with it, such as registry.k8s.io
4:40: spec.registries[1].name: it is not a registry's name; hint: write host[:port] as images begin with it, such as registry.k8s.io
4:81: spec.registries[2].name: it is not a registry's name; hint: write host[:port] as images begin with it, such as registry.k8s.io
4:116: spec.registries[3].name: index.docker.io is Docker Hub under another name than images have it; hint: write docker.io
4:163: spec.registries[4].name: it is not a registry's name; hint: write host[:port] as images begin with it, such as registry.k8s.io
4:196: spec.registries[5].name: it is not a registry's name; hint: write host[:port] as images begin with it, such as registry.k8s.io`},
		{"twice", `registries: [{name: a, mirrors: [https://m, https://m/v2/]}, {name: a, caFile: x}]`, `
4:46: spec.registries[0].mirrors[1]: https://m/v2 is here twice; hint: keep one of them
4:64: spec.registries[1].name: there are two registries a; hint: say all of it in one place`},
		{"mirrors", `registries: [{name: a, mirrors: ["https://u:s3cret@m", x]}]`, `
4:35: spec.registries[0].mirrors[0]: it holds a name or a password; hint: put them into credentialsFile
4:57: spec.registries[0].mirrors[1]: it begins with neither https:// nor http://; hint: write https://host[:port][/folder]`},
		{"nothing said", `registries: [{name: a}, {name: b, exclusive: true}]`, `
4:15: spec.registries[0]: nothing is said of the registry; hint: give mirrors, caFile or credentialsFile, or remove it
4:36: spec.registries[1].exclusive: there is no mirror to ask instead of the registry; hint: name mirrors, or remove it`},
		{"files", `registries: [{name: a, caFile: "https://a/ca.crt", credentialsFile: "file://x"}]`, `
4:25: spec.registries[0].caFile: it is a URL and not a file; hint: download it and name the file
4:53: spec.registries[0].credentialsFile: it is a URL and not a file; hint: download it and name the file`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("c.yaml", []byte(head+"spec:\n"+indent(tt.spec)))
			if err != nil {
				t.Fatalf("Parse: %v", err)
			}
			checkMessages(t, Validate(c), tt.want)
		})
	}
}

func FuzzParseMirror(f *testing.F) {
	for _, s := range []string{"https://m", "http://m:5000/v2/a/b", "https://[::1]:5000/x", "https://u:p@m", "https://m/%2e%2e/x", "https://m/v2/v2/v2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMirror(text)
		if err != nil {
			return
		}
		// The root is itself a mirror's URL, and the same one: what containerd is given is what was meant.
		again, err := ParseMirror(m.Root())
		if err != nil || again != m && !strings.HasPrefix(m.Folder, "v2") {
			t.Fatalf("%q: the root %s is read as %+v, %v", text, m.Root(), again, err)
		}
		if u, err := url.Parse(m.Root()); err != nil || u.Host != m.Host || strings.ContainsAny(m.Root(), "\"\\\n ") {
			t.Fatalf("%q: the root is %s, %v", text, m.Root(), err)
		}
	})
}
