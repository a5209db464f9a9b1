package certs_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/myadm/myadm/certs"
)

// starts are hosts on which a run may be cut.
var starts = map[string]func(t *testing.T) (certs.Files, certs.Settings){
	"blank": func(t *testing.T) (certs.Files, certs.Settings) { return certs.Files{}, settings() },
	"new name": func(t *testing.T) (certs.Files, certs.Settings) {
		s := settings()
		have := issued(t, s)
		s.SANs, s.Endpoint = []string{"api.example.org"}, "api.example.org:6443"
		return have, s
	},
	"no CA": func(t *testing.T) (certs.Files, certs.Settings) {
		s := settings()
		have := issued(t, s)
		delete(have, pki+"ca.crt")
		delete(have, pki+"ca.key")
		return have, s
	},
	"no service account key": func(t *testing.T) (certs.Files, certs.Settings) {
		s := settings()
		have := issued(t, s)
		delete(have, pki+"sa.key")
		return have, s
	},
}

// A run that is cut between any two writes is carried on by the next one.
func TestCutBetweenAnyTwoWrites(t *testing.T) {
	for name, start := range starts {
		t.Run(name, func(t *testing.T) {
			have, s := start(t)
			files := issue(t, have, s)
			for n := range files {
				resumes(t, fmt.Sprintf("after %d writes", n+1), write(have, files[:n+1]...), s)
			}
		})
	}
}

// The same when the files of a stage are written at the same time, and any of them may be in place.
func TestCutWithinAStage(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, start := range starts {
		t.Run(name, func(t *testing.T) {
			have, s := start(t)
			stages := certs.Stages(issue(t, have, s))
			for i, stage := range stages {
				before := write(have, slices.Concat(stages[:i]...)...)
				for range 20 {
					var some []certs.File
					for _, f := range stage {
						if random.IntN(2) == 0 {
							some = append(some, f)
						}
					}
					resumes(t, fmt.Sprintf("stage %d with %v", i, paths(some)), write(before, some...), s)
				}
			}
		})
	}
}

// resumes proves that one more run completes the files, without a change to what was a CA or was valid already.
func resumes(t *testing.T, when string, cut certs.Files, s certs.Settings) {
	t.Helper()
	files, err := certs.Issue(cut, s, now)
	if err != nil {
		t.Fatalf("%s: Issue: %v", when, err)
	}
	done := write(cut, files...)
	if findings, err := certs.Check(done, s, now); err != nil || len(findings) > 0 {
		t.Fatalf("%s: Check: %v, %+v", when, err, findings)
	}
	for path, data := range cut {
		if strings.HasSuffix(path, "ca.key") || strings.HasSuffix(path, "ca.crt") || path == pki+"sa.key" {
			if !bytes.Equal(data, done[path]) {
				t.Fatalf("%s: %s was replaced", when, path)
			}
		}
	}
}

func paths(files []certs.File) []string {
	var list []string
	for _, f := range files {
		list = append(list, f.Path)
	}
	return list
}

// A CA's certificate is only ever written when its key is in place, or it could not be told from an external one.
func TestStagesPutCAKeysFirst(t *testing.T) {
	stages := certs.Stages(issue(t, certs.Files{}, settings()))
	if len(stages) != 2 {
		t.Fatalf("%d stages", len(stages))
	}
	want := []string{pki + "ca.key", pki + "front-proxy-ca.key", pki + "etcd/ca.key"}
	if got := paths(stages[0]); !slices.Equal(got, want) {
		t.Errorf("first stage %v, want %v", got, want)
	}
	if got := len(stages[0]) + len(stages[1]); got != 3*2+7*2+2+5 {
		t.Errorf("%d files in all", got)
	}
	if stages := certs.Stages(nil); len(stages) != 0 {
		t.Errorf("%d stages of nothing", len(stages))
	}
}
