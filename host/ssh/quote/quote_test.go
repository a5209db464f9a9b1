package quote_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host/ssh/quote"
)

func TestArgv(t *testing.T) {
	tests := []struct {
		argv []string
		want string
	}{
		{nil, ""},
		{[]string{"systemctl", "enable", "--now", "kubelet.service"}, "systemctl enable --now kubelet.service"},
		{[]string{""}, "''"},
		{[]string{"a b", "c"}, "'a b' c"},
		{[]string{"it's"}, `'it'\''s'`},
		{[]string{"A=b"}, "'A=b'"},
		{[]string{"~root"}, "'~root'"},
		{[]string{"$(reboot)", "`x`", "*"}, "'$(reboot)' '`x`' '*'"},
		{[]string{"a\nb"}, "'a\nb'"},
	}
	for _, tt := range tests {
		if got := quote.Argv(tt.argv...); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.argv, got, tt.want)
		}
	}
}

// FuzzArgv has a shell take the text apart again.
func FuzzArgv(f *testing.F) {
	for _, seed := range []string{"plain", "", "it's", `back\slash`, "new\nline", "$HOME `id` $(id)", "~", "-n", "A=b", "é\xff\x01", "!x", "#c", "{a,b}", "''"} {
		f.Add(seed, "second")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.ContainsRune(a+b, 0) || len(a)+len(b) > 1<<16 {
			return
		}
		text := "printf '%s\\0' " + quote.Argv(a, b)
		out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", text).Output()
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(a+"\x00"+b+"\x00", string(out)); diff != "" {
			t.Errorf("%s:\n%s", text, diff)
		}
	})
}
