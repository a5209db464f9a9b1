package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// stub is an ssh and an scp that write down what they are asked for, and the beginning of the script that a host is to run.
const stub = `#!/bin/bash
args="${0##*/}"
for arg; do case $arg in -F | -q | -r | */ssh_config) ;; *) args="$args ${arg##/*/}" ;; esac; done
case $args in *print-join-command) echo "kubeadm join h1:6443 --token t" ;; esac
case $args in *"bash -s") args="$args <$(head -c 6)" ;; esac
echo "$args" >>"$LOG"
`

// The script does one host after the other, or all at once; in both ways the control plane is first to come up, workers join
// when they are prepared, and every host gets what its role needs.
func TestClusterScript(t *testing.T) {
	for way, inOrder := range map[string]bool{"one-by-one": true, "at-once": false} {
		t.Run(way, func(t *testing.T) {
			dir := t.TempDir()
			log := filepath.Join(dir, "log")
			script, err := scriptFiles.ReadFile("script/cluster.sh")
			if err != nil {
				t.Fatal(err)
			}
			for name, data := range map[string]string{"ssh": stub, "scp": stub, "cluster.sh": string(script), "host.sh": "# host\n"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "bash", filepath.Join(dir, "cluster.sh"), dir, filepath.Join(dir, "ssh_config"), way, "h1", "h2", "h3")
			cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "LOG=" + log, "IGNORED=Swap"}
			said, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			data, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Split(strings.TrimSpace(string(data)), "\n")
			want := []string{
				"scp node control-plane h1:/root/", "ssh h1 bash -s <# host",
				"ssh h1 kubeadm init --config /root/control-plane/kubeadm.yaml --ignore-preflight-errors Swap",
				"ssh h1 kubectl --kubeconfig admin.conf apply -f network.json",
				"ssh h1 kubeadm token create --print-join-command",
				"scp node h2:/root/", "ssh h2 bash -s <# host", "ssh h2 kubeadm join h1:6443 --token t --ignore-preflight-errors Swap",
				"scp node h3:/root/", "ssh h3 bash -s <# host", "ssh h3 kubeadm join h1:6443 --token t --ignore-preflight-errors Swap",
			}
			joins := slices.IndexFunc(got, func(s string) bool { return strings.Contains(s, "kubeadm join") })
			for _, s := range got[max(joins, 0):] {
				if !inOrder && !strings.Contains(s, "kubeadm join") {
					t.Errorf("%q is done after a worker has joined", s)
				}
			}
			if !inOrder {
				slices.Sort(got)
				slices.Sort(want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			steps := map[string]int{}
			for _, p := range stepsOf(linesOf(string(said))) {
				steps[p.Name]++
			}
			if diff := cmp.Diff(map[string]int{"copy": 3, "install": 3, "init": 1, "network": 1, "join": 2}, steps); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

// linesOf are lines a second apart.
func linesOf(text string) []line {
	var all []line
	for l := range strings.Lines(text) {
		all = append(all, line{time.Duration(len(all)) * time.Second, strings.TrimSpace(l)})
	}
	return all
}

func TestStepsOf(t *testing.T) {
	got := stepsOf(linesOf("h1 copy begins\nh2 copy begins\n[certs] Using certificateDir folder\nh2 copy ends\nh1 join ends\nh1 copy ends\nh2 install begins\n"))
	want := []phase{{Name: "copy", Host: "h1", From: 0, To: 5, Text: "done"}, {Name: "copy", Host: "h2", From: 1, To: 3, Text: "done"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
