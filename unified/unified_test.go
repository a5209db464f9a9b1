package unified

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	lines := func(n int) []byte {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "line %d\n", i)
		}
		return []byte(b.String())
	}
	for _, tt := range []struct {
		name    string
		was, is []byte
		want    string
	}{
		{"the same", []byte("a\n"), []byte("a\n"), ""},
		{"changed", []byte("a\nb\n"), []byte("a\nc\n"), "--- f\n+++ f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"},
		{"new", nil, []byte("a\n"), "--- /dev/null\n+++ f\n@@ -0,0 +1,1 @@\n+a\n"},
		{"gone", []byte("a\n"), nil, "--- f\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-a\n"},
		{"without an end", []byte("a"), []byte("a\n"), "--- f\n+++ f\n@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+a\n"},
		{"new and empty", nil, []byte{}, ""},
		{"binary", []byte("a\x00"), []byte("a"), Binary},
		{"not UTF-8", []byte("a"), []byte("\xff"), Binary},
		{"large", make([]byte, MaxSize+1), []byte("a"), Large},
		{"large and the same", make([]byte, MaxSize+1), make([]byte, MaxSize+1), ""},
		{"a key", []byte("a\n"), []byte("-----BEGIN EC PRIVATE KEY-----\n"), Secret},
		{"a kubeconfig with a key", []byte("    client-key-data: TUFSS0VS\n"), []byte("a\n"), Secret},
		{"only a secret", []byte("DB_PASSWORD=MARKER1\n"), []byte("DB_PASSWORD=MARKER2\n"), "--- f\n+++ f\n@@ -1,1 +1,1 @@\n-DB_PASSWORD=***\n+DB_PASSWORD=*** (changed)\n"},
		{"two secrets change places", []byte("A_TOKEN=M1\nB_TOKEN=M2\n"), []byte("A_TOKEN=M2\nB_TOKEN=M1\n"), Secret},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Diff("f", tt.was, tt.is)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}

	long := Diff("f", nil, lines(500))
	if got := strings.Split(long, "\n"); len(got) != maxLines+2 || got[maxLines] != "... 303 more lines" {
		t.Errorf("of 500 lines %d are shown, with the end %q", len(got), got[len(got)-2])
	}
	if got := Whole("f", "f", nil, lines(500)); strings.Count(got, "\n") != 503 {
		t.Errorf("whole it has %d lines", strings.Count(got, "\n"))
	}
	wide := Diff("f", nil, []byte(strings.Repeat("é", 300)+"\n"))
	if want := "+" + strings.Repeat("é", 199) + "... 202 more bytes\n"; !strings.HasSuffix(wide, want) {
		t.Errorf("a wide line is %q", wide)
	}
}

func TestHide(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"a URL", "proxy: http://ops:MARKER@proxy.example.org:3128/x", "proxy: http://***@proxy.example.org:3128/x"},
		{"a URL with a user alone", "socks5://MARKER@h:1 https://h2/a@sha256:b", "socks5://***@h:1 https://h2/a@sha256:b"},
		{"two URLs", `a="http://u:MARKER@h" b='https://v:MARKER@i'`, `a="http://***@h" b='https://***@i'`},
		{"a header", "Authorization = \"Basic MARKER\"\n", "Authorization = ***\n"},
		{"what grants rights", "authorization:\n  mode: Webhook\n--authorization-mode=Node,RBAC", "authorization:\n  mode: Webhook\n--authorization-mode=Node,RBAC"},
		{"a kubeconfig's user", "  user:\n    token: MARKER\n    password: MARKER", "  user:\n    token: ***\n    password: ***"},
		{"in braces", `user: {name: x, password: MARKER}`, `user: {name: x, password: ***`},
		{"a text in quotes that begins with it", `conf: "password: MARKER \n"`, `conf: "password: ***\n"`},
		{"an EncryptionConfiguration", "      keys:\n      - name: k\n        secret: MARKER\n", "      keys:\n      - name: k\n        secret: ***\n"},
		{"a volume", "  secret:\n    secretName: name\n  automountServiceAccountToken: false\n", "  secret:\n    secretName: name\n  automountServiceAccountToken: false\n"},
		{"JSON", `  "token": "MARKER"`, `  "token": ***`},
		{"a flag", "- --basic-password=MARKER\n- --token-auth-file=/etc/tokens\n", "- --basic-password=***\n- --token-auth-file=/etc/tokens\n"},
		{"an environment", "Environment=AWS_SECRET_ACCESS_KEY=MARKER\nNO_PROXY=a,b\nexport API_KEY = MARKER", "Environment=AWS_SECRET_ACCESS_KEY=***\nNO_PROXY=a,b\nexport API_KEY = ***"},
		{"a pod's variable", "    - name: DB_PASSWORD\n      value: MARKER\n    - name: DB_HOST\n      value: h\n", "    - name: DB_PASSWORD\n      value: ***\n    - name: DB_HOST\n      value: h\n"},
		{"a variable, value first", "- value: MARKER\n  name: DB_PASSWORD\n- value: h\n  name: DB_HOST\n", "- value: ***\n  name: DB_PASSWORD\n- value: h\n  name: DB_HOST\n"},
		{"a variable after another", "- name: DB_HOST\n  value: h\n- name: DB_TOKEN\n  valueFrom: {}\n", "- name: DB_HOST\n  value: h\n- name: DB_TOKEN\n  valueFrom: {}\n"},
		{"a variable of many lines", "- name: DB_TOKEN\n  value: |-\n    MARKER\n\n      MARKER\n- name: X\n", "- name: DB_TOKEN\n  value: ***\n    ***\n\n      ***\n- name: X\n"},
		{"a variable on one line", `env: [{name: A_TOKEN, value: "MARKER"}, {name: B, value: c}]`, `env: [{name: A_TOKEN, value: ***}, {name: B, value: c}]`},
		{"a variable in JSON", "\"name\": \"A_TOKEN\",\n\"value\": \"MARKER\"", "\"name\": \"A_TOKEN\",\n\"value\": ***"},
		{"an argument", "- name: service-account-key-file\n  value: /etc/kubernetes/pki/sa.pub\n", "- name: service-account-key-file\n  value: /etc/kubernetes/pki/sa.pub\n"},
		{"a text in quotes", `data: "a:  \n- name: A_TOKEN\n  value: MARKER\npassword: MARKER\nb: c"`, `data: "a:  \n- name: A_TOKEN\n  value: ***\npassword: ***\nb: c"`},
		{"line ends of others", "A_TOKEN=MARKER\r\nb\r\n", "A_TOKEN=***\r\nb\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			was, is := hide(tt.text, tt.text)
			if diff := cmp.Diff(tt.want, is); diff != "" || was != is {
				t.Errorf("(-want +got):\n%s\nas the old text: %s", diff, was)
			}
		})
	}
}

// Whatever the text, hiding neither fails nor moves lines.
func FuzzHide(f *testing.F) {
	for _, text := range []string{
		"", "- name: A_TOKEN\n  value: x\n", "value: x\nname: A_TOKEN", "http://a:b@c", "A_TOKEN=***", "name: A_TOKEN", "token: \n", "\n\n",
		"- name: A_TOKEN\n  value: >\n    a@b\n    http://x:y@z\n",
	} {
		f.Add(text, text+"x")
	}
	f.Fuzz(func(t *testing.T, was, is string) {
		before, after := hide(was, is)
		if strings.Count(before, "\n") != strings.Count(was, "\n") || strings.Count(after, "\n") != strings.Count(is, "\n") {
			t.Errorf("%q becomes %q, %q becomes %q", was, before, is, after)
		}
	})
}
