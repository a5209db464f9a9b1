package release

import (
	"net/url"
	"testing"

	"github.com/myadm/myadm/config"
)

func TestLabelURL(t *testing.T) {
	for text, want := range map[string]string{
		"stable":      "https://dl.k8s.io/release/stable.txt",
		"stable-1":    "https://dl.k8s.io/release/stable-1.txt",
		"latest-1.37": "https://dl.k8s.io/release/latest-1.37.txt",
	} {
		label, err := config.ParseLabel(text)
		if err != nil || LabelURL(label) != want {
			t.Errorf("%s is at %s, %v", text, LabelURL(label), err)
		}
	}
}

// FuzzLabelURL: whatever is a label stays below the folder of releases.
func FuzzLabelURL(f *testing.F) {
	for _, seed := range []string{"stable", "stable-1", "stable-1.37", "latest-1.37", "v1.37.2", "stable-1.37/../x", "stable\n", "stable-1?x", "ci/latest"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		label, err := config.ParseLabel(text)
		if err != nil {
			return
		}
		u, err := url.Parse(LabelURL(label))
		if err != nil || u.Host != "dl.k8s.io" || u.Path != "/release/"+text+".txt" || u.RawQuery != "" || u.Fragment != "" {
			t.Errorf("label %q is at %s, %v", text, LabelURL(label), err)
		}
	})
}
