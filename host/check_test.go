package host_test

import (
	"strings"
	"testing"

	"github.com/myadm/myadm/host"
)

func TestCheckFiles(t *testing.T) {
	good := host.File{Path: "/etc/x", Mode: 0o600}
	tests := []struct {
		name  string
		files []host.File
		ok    bool
	}{
		{"none", nil, true},
		{"good", []host.File{good, {Path: "/etc/y", Mode: 0o4755 & 0o777}}, true},
		{"relative", []host.File{{Path: "etc/x", Mode: 0o600}}, false},
		{"empty", []host.File{{Mode: 0o600}}, false},
		{"unclean", []host.File{{Path: "/etc/../x", Mode: 0o600}}, false},
		{"trailing slash", []host.File{{Path: "/etc/", Mode: 0o600}}, false},
		{"NUL", []host.File{{Path: "/etc/x\x00y", Mode: 0o600}}, false},
		{"no mode", []host.File{{Path: "/etc/x"}}, false},
		{"twice", []host.File{good, good}, false},
	}
	for _, tt := range tests {
		if err := host.CheckFiles(tt.files...); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestCheckRemove(t *testing.T) {
	for path, ok := range map[string]bool{"/": false, "//": false, "": false, ".": false, "/etc": true} {
		if err := host.CheckRemove("/var", path); (err == nil) != ok {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestExitErrorOfAFullDiskSaysWhatToDo(t *testing.T) {
	for stderr, want := range map[string]bool{
		"ctr: write /var/lib/containerd/x: no space left on device\n":  true,
		"mkdir: cannot create directory '/x': No space left on device": true,
		"ctr: not found": false,
		"":               false,
	} {
		err := &host.ExitError{Argv: []string{"ctr", "images", "import", "-"}, Code: 1, Stderr: []byte(stderr)}
		if got := strings.Contains(err.Error(), "; hint: make room"); got != want {
			t.Errorf("%q: %v", stderr, err)
		}
	}
}
