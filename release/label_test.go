package release

import (
	"net/url"
	"testing"
)

func TestParseLabel(t *testing.T) {
	for text, want := range map[string]string{
		"stable":      "https://dl.k8s.io/release/stable.txt",
		"stable-1":    "https://dl.k8s.io/release/stable-1.txt",
		"stable-1.37": "https://dl.k8s.io/release/stable-1.37.txt",
		"latest":      "https://dl.k8s.io/release/latest.txt",
		"latest-1.37": "https://dl.k8s.io/release/latest-1.37.txt",
	} {
		label, err := ParseLabel(text)
		if err != nil || label.URL() != want || label.String() != text {
			t.Errorf("ParseLabel(%q) = %v at %s, %v", text, label, label.URL(), err)
		}
	}
	for _, text := range []string{
		"", "newest", "Stable", "stable-", "stable-v1.37", "stable-1.37.2", "stable-01", "stable-1.037", "stable-1.", "v1.37.2", " stable", "stable\n",
		"stable-../x", "stable-1.37/../../x", "ci/latest", "stable-99999",
	} {
		if label, err := ParseLabel(text); err == nil {
			t.Errorf("ParseLabel(%q) = %v", text, label)
		}
	}
}

func TestLabelCovers(t *testing.T) {
	for _, tt := range []struct {
		label, version string
		want           bool
	}{
		{"stable", "v1.37.2", true},
		{"stable", "1.37.2", false},
		{"stable-1", "v1.37.2", true},
		{"stable-1", "v2.0.0", false},
		{"stable-1.37", "v1.37.2", true},
		{"latest-1.37", "v1.37.3-rc.0", true},
		{"stable-1.37", "v1.36.3", false},
		{"stable-1.3", "v1.37.2", false},
	} {
		label, err := ParseLabel(tt.label)
		if err != nil {
			t.Fatal(err)
		}
		if got := label.Covers(tt.version); got != tt.want {
			t.Errorf("%s covers %s: %v", tt.label, tt.version, got)
		}
	}
}

// FuzzParseLabel: whatever is a label stays below the folder of releases.
func FuzzParseLabel(f *testing.F) {
	for _, seed := range []string{"stable", "stable-1", "stable-1.37", "latest-1.37", "v1.37.2", "stable-1.37/../x", "stable\n", "stable-1?x", "ci/latest"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		label, err := ParseLabel(text)
		if err != nil {
			return
		}
		u, err := url.Parse(label.URL())
		if err != nil || u.Host != "dl.k8s.io" || u.Path != "/release/"+text+".txt" || u.RawQuery != "" || u.Fragment != "" {
			t.Errorf("label %q is at %s, %v", text, label.URL(), err)
		}
	})
}
