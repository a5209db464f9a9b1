package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func seconds(end, ready float64) times {
	return times{end: time.Duration(end * float64(time.Second)), ready: time.Duration(ready * float64(time.Second))}
}

// measured is a report as a run of three rounds makes it.
func measured() *report {
	r := &report{Kubernetes: "v1.37.2", CPUs: 2}
	for i, end := range []float64{9, 6, 7} {
		t := seconds(end, end)
		t.phases = []phase{{Name: "certs", Host: "h1", From: 0.1, To: end, Text: "done, 22 changes"}}
		r.add(preparedInit, nameMyadm, t)
		r.add(preparedInit, nameKubeadm, seconds(8+float64(i), 12))
	}
	r.add(preparedJoin, nameMyadm, seconds(4, 4))
	r.add(bareInit, nameMyadm, seconds(12, 12))
	r.add(bareShare, nameMyadm, seconds(8, 8))
	return r
}

func TestRatiosAreOfMyadmsReadyAndTheOthersEnd(t *testing.T) {
	want := []ratio{{What: preparedInit, Tool: nameKubeadm, Myadm: 7, Other: 9, Ratio: 7.0 / 9}}
	if diff := cmp.Diff(want, measured().ratios()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// No single command of kubeadm's makes a whole cluster: what counts is when all nodes were Ready.
func TestRatioOfClustersIsOfBothReady(t *testing.T) {
	r := &report{}
	r.add(preparedCluster, nameMyadm, seconds(15, 16))
	r.add(preparedCluster, nameKubeadm, seconds(39, 40))
	want := []ratio{{What: preparedCluster, Tool: nameKubeadm, Myadm: 16, Other: 40, Ratio: 0.4}}
	if diff := cmp.Diff(want, r.ratios()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var text bytes.Buffer
	if err := r.writeText(&text, false); err != nil {
		t.Fatal(err)
	}
	if line := "three control planes and two workers: myadm 16.0 s, kubeadm 40.0 s, ratio 0.40 (target 0.4)\n"; !strings.Contains(text.String(), line) {
		t.Errorf("there is no line %q in:\n%s", line, text.String())
	}
}

// The target is about the script that most people have; the other one is told beside it.
func TestRatiosOfFiveBareHosts(t *testing.T) {
	r := &report{}
	mine, theirs := seconds(30, 30), seconds(60, 61)
	mine.phases = []phase{{Name: "images", Host: "h1", From: 10, To: 20, Text: "done"}}
	theirs.phases = []phase{{Name: "copy", Host: "h1", From: 0, To: 2, Text: "done"}, {Name: "copy", Host: "h2", From: 9, To: 12, Text: "done"}}
	r.add(bareFive, nameMyadm, mine)
	r.add(bareFive, nameScript, theirs)
	r.add(bareFive, nameScriptAtOnce, seconds(40, 40))
	var out bytes.Buffer
	if err := r.writeText(&out, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"a control plane and four workers: myadm 30.0 s, script, host after host 61.0 s, ratio 0.49 (target 0.5)\n",
		"a control plane and four workers: myadm 30.0 s, script, hosts at once 40.0 s, ratio 0.75\n",
		"four workers, myadm: where 10.0 s went\n    10.0  images\n",
		"host after host: where 5.0 s went\n     5.0  copy\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in:\n%s", want, out.String())
		}
	}
}

// An upgrade tells where both tools' time went, also if nobody asks for phases, and is compared by when its nodes were Ready.
func TestUpgradeReport(t *testing.T) {
	r := &report{}
	mine, theirs := seconds(60, 60), seconds(590, 600)
	mine.phases = []phase{
		{Name: "preflight", Host: "cluster", From: 0, To: 2, Text: "ok"},
		{Name: "control-planes", Host: "h1", From: 2, To: 22, Text: "done, 5 changes", Steps: []step{{"look", 2, 3}, {"drain", 3, 22}}},
		{Name: "control-planes", Host: "h2", From: 22, To: 42, Text: "done, 5 changes", Steps: []step{{"look", 22, 24}, {"drain", 24, 42}}},
	}
	theirs.phases = []phase{{Name: "kubeadm upgrade", Host: "h1", From: 0, To: 234, Text: "kubeadm upgrade apply"}}
	r.add(preparedUpgrade, nameMyadm, mine)
	r.add(preparedUpgrade, nameKubeadm, theirs)
	var out bytes.Buffer
	if err := r.writeText(&out, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"upgrade of three control planes and two workers: myadm 60.0 s, kubeadm 600.0 s, ratio 0.10 (target 0.2)\n",
		"myadm: where 42.0 s went\n     2.0  preflight\n    40.0  control-planes\n     3.0    look\n    37.0    drain\n",
		"kubeadm: where 234.0 s went\n   234.0  kubeadm upgrade\n",
		"   2.0 to  22.0  h1       control-planes     done, 5 changes\n   2.0 to   3.0             look\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in:\n%s", want, out.String())
		}
	}
}

func TestCoveredCountsOnceWhatOverlaps(t *testing.T) {
	for _, tt := range []struct {
		spans []span
		want  float64
	}{
		{nil, 0},
		{[]span{{5, 6}, {1, 2}}, 2},
		{[]span{{1, 9}, {2, 3}, {8, 10}}, 9},
		{[]span{{0, 2}, {2, 4}}, 4},
	} {
		if got := covered(tt.spans); got != tt.want {
			t.Errorf("%v cover %v, want %v", tt.spans, got, tt.want)
		}
	}
}

func TestBareHostIsComparedWithItsParts(t *testing.T) {
	want := &sum{Whole: 12, Share: 8, Rest: 7, Ratio: 0.8}
	if diff := cmp.Diff(want, measured().bare()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r := &report{}
	r.add(bareInit, nameMyadm, seconds(12, 12))
	if got := r.bare(); got != nil {
		t.Errorf("without the parts: %+v, want nil", got)
	}
}

func TestPhasesAreThoseOfTheMedianRun(t *testing.T) {
	if got := measured().find(preparedInit, nameMyadm).Phases; len(got) != 1 || got[0].To != 7 {
		t.Errorf("phases %+v, want those of the run of 7 s", got)
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1}, 5},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 9, 1, 2}, 3},
	} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.values, got, tt.want)
		}
	}
}

func TestTextReport(t *testing.T) {
	var with, without bytes.Buffer
	if err := measured().writeText(&with, true); err != nil {
		t.Fatal(err)
	}
	if err := measured().writeText(&without, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"init, myadm, to Ready                                        6.0    7.0    9.0\n",
		"init, kubeadm, to its end                                    8.0    9.0   10.0\n",
		"init, kubeadm, to Ready                                     12.0   12.0   12.0\n",
		"init: myadm 7.0 s, kubeadm 9.0 s, ratio 0.78 (target 0.9)\n",
		"bare host: 12.0 s to Ready; copying and importing 8.0 s + init 7.0 s = 15.0 s, ratio 0.80 (target 1.0)\n",
	} {
		if !strings.Contains(without.String(), want) {
			t.Errorf("there is no line %q in:\n%s", want, without.String())
		}
	}
	if line := "   0.1 to   7.0  h1       certs              done, 22 changes\n"; !strings.Contains(with.String(), line) || strings.Contains(without.String(), line) {
		t.Errorf("%q is not in just the first of:\n%s\n%s", line, with.String(), without.String())
	}
}

func TestJSONReport(t *testing.T) {
	var out bytes.Buffer
	if err := measured().writeJSON(&out); err != nil {
		t.Fatal(err)
	}
	var got struct {
		KubernetesVersion string
		Series            []struct {
			What, Tool string
			End, Ready []float64
		}
		Ratios []struct{ Ratio float64 }
		Bare   struct{ Ratio float64 }
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.KubernetesVersion != "v1.37.2" || len(got.Series) != 5 || len(got.Ratios) != 1 || got.Bare.Ratio != 0.8 {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]float64{9, 6, 7}, got.Series[0].End); diff != "" {
		t.Errorf("every measurement is told, in its order (-want +got):\n%s", diff)
	}
}
