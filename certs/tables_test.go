package certs

import (
	"slices"
	"testing"
)

// Every reference between and out of the tables leads somewhere, and an authority stands before what it signs.
func TestTablesResolve(t *testing.T) {
	names, paths := make(map[string]bool), make(map[string]bool)
	once := func(seen map[string]bool, what string) {
		if what == "" || seen[what] {
			t.Errorf("%q is there twice or empty", what)
		}
		seen[what] = true
	}
	authorities := make(map[string]bool)
	used := make(map[string]bool)
	for _, c := range certificates {
		once(names, c.name)
		once(paths, c.certPath())
		once(paths, c.keyPath())
		switch {
		case c.isCA():
			authorities[c.name] = true
			if len(c.usages) > 0 || c.sans != nil || c.node {
				t.Errorf("authority %s has a leaf's columns", c.name)
			}
		case !authorities[c.ca]:
			t.Errorf("%s is signed by %q, which does not stand above it", c.name, c.ca)
		}
		used[c.ca] = true
	}
	if !authorities[rootCA] {
		t.Errorf("no authority %q for kubeconfigs", rootCA)
	}
	for name := range authorities {
		if !used[name] {
			t.Errorf("authority %s signs nothing", name)
		}
	}
	once(paths, saKey)
	once(paths, saPub)
	for _, k := range kubeconfigs {
		once(names, k.name)
		once(paths, k.path)
		if k.current != "" {
			once(paths, k.current)
		}
		if !slices.Equal(k.usages, clientAuth) {
			t.Errorf("%s has usages %v", k.name, k.usages)
		}
	}

	for _, id := range identities() {
		if id.cn == "" && !id.node {
			t.Errorf("%+v has no common name", id)
		}
		for _, u := range id.usages {
			if usageNames[u] == "" {
				t.Errorf("usage %d has no name", u)
			}
		}
	}

	listed := Paths()
	for path := range paths {
		if !slices.Contains(listed, path) {
			t.Errorf("Paths lacks %s", path)
		}
	}
	if len(listed) != len(paths) {
		t.Errorf("Paths has %d paths, the tables %d", len(listed), len(paths))
	}
}

func identities() []identity {
	var all []identity
	for _, c := range certificates {
		all = append(all, c.identity)
	}
	for _, k := range kubeconfigs {
		all = append(all, k.identity)
	}
	return all
}
