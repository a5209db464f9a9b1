package mirror

import (
	"strings"
	"testing"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"/a/b", "/a/b", true},
		{"/a/b", "/a/bc", false},
		{"/a/b", "/x/a/b", false},
		{"/a/*", "/a/b", true},
		{"/a/*", "/a/b/c", false},
		{"/a/**", "/a/b/c", true},
		{"**/c", "/a/b/c", true},
		{"**/c", "/a/bc", false},
		{"/a.?", "/a.b", true},
		{"/a.?", "/a./", false},
		{"/a.b", "/axb", false},
		{"/a+(b)[c]", "/a+(b)[c]", true},
		{"/\u00e4?", "/\u00e4\u00f6", true},
		{"**", "", true},
	} {
		if got := glob(c.pattern).MatchString(c.text); got != c.want {
			t.Errorf("%s matches %s: %v", c.pattern, c.text, got)
		}
	}
}

// Whatever is posted to the admin endpoint is a glob, and one without wildcards matches itself alone.
func FuzzGlob(f *testing.F) {
	f.Add("**/kubelet", "/x/kubelet")
	f.Add("/a(", "/a(")
	f.Add("/\xff\n$", "/\xff\n$")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		got := glob(strings.ToValidUTF8(pattern, "?")).MatchString(text)
		if !strings.ContainsAny(pattern, "*?") && strings.ToValidUTF8(pattern, "") == pattern && got != (pattern == text) {
			t.Errorf("%q matches %q: %v", pattern, text, got)
		}
	})
}
