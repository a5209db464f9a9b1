package manifests_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
)

func TestKubeletFlagsEnv(t *testing.T) {
	tests := []struct {
		name string
		args []config.Arg
		want string
	}{
		{"none", nil, `KUBELET_KUBEADM_ARGS=""`},
		{"two", []config.Arg{{Name: "node-ip", Value: "10.0.0.1"}, {Name: "v", Value: "4"}}, `KUBELET_KUBEADM_ARGS="--node-ip=10.0.0.1 --v=4"`},
		{"blanks", []config.Arg{{Name: "a", Value: "x y"}}, `KUBELET_KUBEADM_ARGS="\"--a=x y\""`},
		{"quotes", []config.Arg{{Name: "a", Value: `x"y'z`}}, `KUBELET_KUBEADM_ARGS="\"--a=x\\\"y'z\""`},
		{"shell", []config.Arg{{Name: "a", Value: "$HOME`id`"}}, "KUBELET_KUBEADM_ARGS=\"--a=\\$HOME\\`id\\`\""},
		{"backslash", []config.Arg{{Name: "a", Value: `x\y`}}, `KUBELET_KUBEADM_ARGS="\"--a=x\\\\y\""`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f, err := manifests.KubeletFlagsEnv(test.args)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSuffix(string(f.Data), "\n"); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			back, err := manifests.ParseKubeletFlagsEnv(f.Data)
			if diff := cmp.Diff(test.args, back); err != nil || diff != "" {
				t.Errorf("read back: %v (-written +read)\n%s", err, diff)
			}
		})
	}
}

func TestKubeletFlagsEnvRefuses(t *testing.T) {
	for _, a := range []config.Arg{
		{Name: ""}, {Name: "-a"}, {Name: "a b"}, {Name: "a=b"}, {Name: `a"`},
		{Name: "a", Value: "x\ny"}, {Name: "a", Value: "\x00"}, {Name: "a", Value: "\xff"},
	} {
		if f, err := manifests.KubeletFlagsEnv([]config.Arg{a}); err == nil {
			t.Errorf("%q gives %q, want an error", a, f.Data)
		}
	}
}

func TestParseKubeletFlagsEnv(t *testing.T) {
	arg := func(pairs ...string) (args []config.Arg) {
		for i := 0; i < len(pairs); i += 2 {
			args = append(args, config.Arg{Name: pairs[i], Value: pairs[i+1]})
		}
		return args
	}
	tests := []struct {
		name, file string
		want       []config.Arg
		err        string
	}{
		{"empty", "KUBELET_KUBEADM_ARGS=\"\"\n", nil, ""},
		{"as kubeadm 1.24 wrote it", `KUBELET_KUBEADM_ARGS="--container-runtime=remote --pod-infra-container-image=registry.k8s.io/pause:3.7"`,
			arg("container-runtime", "remote", "pod-infra-container-image", "registry.k8s.io/pause:3.7"), ""},
		{"edited by hand", "# by me\n\nOTHER=1\n KUBELET_KUBEADM_ARGS = --v 4 --a='x y' --b\n", arg("v", "4", "a", "x y", "b", "true"), ""},
		{"the last one wins", "KUBELET_KUBEADM_ARGS=--a=1\nKUBELET_KUBEADM_ARGS=--a=2", arg("a", "2"), ""},
		{"continued", "KUBELET_KUBEADM_ARGS=\"--a=1 \\\n--b=2\"", arg("a", "1", "b", "2"), ""},
		{"short", `KUBELET_KUBEADM_ARGS="-v 4 --b=c=d"`, arg("v", "4", "b", "c=d"), ""},
		{"single quotes", `KUBELET_KUBEADM_ARGS='--a="x y" '"--b=\$"`, arg("a", "x y", "b", "$"), ""},
		{"missing", "FOO=bar\n#KUBELET_KUBEADM_ARGS=--a=1", nil, "no KUBELET_KUBEADM_ARGS"},
		{"not closed", `KUBELET_KUBEADM_ARGS="--a=1`, nil, "quote is not closed"},
		{"not closed inside", `KUBELET_KUBEADM_ARGS="--a='1"`, nil, "quote is not closed"},
		{"no flag", `KUBELET_KUBEADM_ARGS="a --b=1"`, nil, `"a" is not a flag`},
		{"negative number", `KUBELET_KUBEADM_ARGS="--b -1"`, nil, `"-1" is not a flag`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := manifests.ParseKubeletFlagsEnv([]byte(test.file))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got error %v, want %q", err, test.err)
				}
				return
			}
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got)\n%s", err, diff)
			}
		})
	}
}

// What is read from any file is written so that it reads the same again, unless it cannot be written at all.
func FuzzParseKubeletFlagsEnv(f *testing.F) {
	for _, seed := range []string{
		`KUBELET_KUBEADM_ARGS=""`, `KUBELET_KUBEADM_ARGS="--a=1 --b"`, `KUBELET_KUBEADM_ARGS='--a=x y'`,
		`KUBELET_KUBEADM_ARGS="\"--a=x\\\"y'z\""`, "KUBELET_KUBEADM_ARGS=--a=\\$\\\n--b", "KUBELET_KUBEADM_ARGS", "=\n;",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		args, err := manifests.ParseKubeletFlagsEnv(data)
		if err != nil {
			return
		}
		file, err := manifests.KubeletFlagsEnv(args)
		if err != nil {
			return
		}
		back, err := manifests.ParseKubeletFlagsEnv(file.Data)
		if err != nil || !reflect.DeepEqual(args, back) {
			t.Errorf("%q reads as %q; written as %q that reads as %q, %v", data, args, file.Data, back, err)
		}
	})
}
