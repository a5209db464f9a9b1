package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// TestFarm: every host has files of its own, which last from one command to the next.
func TestFarm(t *testing.T) {
	dir := t.TempDir()
	f, err := newFarm(t.Context(), dir, 4)
	if err != nil {
		t.Fatal(err)
	}
	run := func(i int, line string) string {
		t.Helper()
		key, err := os.ReadFile(f.servers[i].Key)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.ParsePrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(f.servers[i].HostKey()))
		if err != nil {
			t.Fatal(err)
		}
		client, err := ssh.Dial("tcp", f.servers[i].Addr, &ssh.ClientConfig{
			User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(public),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		out, err := session.Output(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		return string(out)
	}
	for i := range f.servers {
		if id, want := run(i, "cat /etc/machine-id"), fmt.Sprintf("%032x\n", i+1); id != want {
			t.Errorf("host %d has the machine-id %q", i+1, id)
		}
		run(i, fmt.Sprintf("echo %d | tee /etc/myadm-farm >/run/myadm-farm", i))
	}
	for _, file := range []string{"/etc/myadm-farm", "/run/myadm-farm"} {
		for i := range f.servers {
			if got, want := run(i, "cat "+file), fmt.Sprintln(i); got != want {
				t.Errorf("host %d has in %s %q", i+1, file, got)
			}
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("it is this machine's %s that was written to", file)
		}
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("files of the farm are left")
	}
}

func TestScaleReport(t *testing.T) {
	r := report{Kubernetes: "v1.37.2", CPUs: 2, Scale: []scaled{
		{25, usage{2, 0.5, 2.5, 80}, usage{1, 0.25, 1, 70}},
		{225, usage{22, 4.5, 30, 220}, usage{9, 1.25, 12, 150}},
	}}
	var out strings.Builder
	if err := r.writeText(&out, false); err != nil {
		t.Fatal(err)
	}
	want := "a further host: apply 100.0 ms (20.0 ms of CPU) and 700 kB, again 40.0 ms (5.0 ms) and 400 kB; 500 MB is the limit\n"
	if got := out.String(); !strings.HasSuffix(got, want) {
		t.Errorf("the report does not end with %q:\n%s", want, got)
	}
}
