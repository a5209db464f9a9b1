//go:build e2e

package lab_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/myadm/myadm/e2e/lab"
)

// up makes a lab in a folder whose name is as bad as users' folders are, and removes it when the test ends.
func up(t *testing.T, name string, o lab.Options) *lab.Lab {
	t.Helper()
	o.Dir, o.Log = filepath.Join(t.TempDir(), name), t.Output()
	t.Cleanup(func() {
		if err := lab.Down(context.Background(), o.Dir, t.Output()); err != nil {
			t.Error(err)
		}
	})
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// ssh runs a command on a host as the lab's user does, with stdin.
func ssh(t *testing.T, l *lab.Lab, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ssh", append([]string{
		"-F", l.Path(lab.SSHConfig), "-o", "BatchMode=yes", "-o", "ConnectTimeout=2", "-o", "LogLevel=ERROR",
	}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func mustSSH(t *testing.T, l *lab.Lab, args ...string) string {
	t.Helper()
	out, err := ssh(t, l, "", args...)
	if err != nil {
		t.Fatalf("ssh %v: %v: %s", args, err, out)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestHostsAreMachines(t *testing.T) {
	l := up(t, "my lab 100%", lab.Options{Hosts: 2, HostUsers: map[string]string{"h2": lab.UserSudo}})

	for host, user := range map[string]string{"h1": "root", "h2": "ops"} {
		if got := mustSSH(t, l, host, "id -un; hostname"); got != user+"\n"+host {
			t.Errorf("%s says %q", host, got)
		}
	}
	if id1, id2 := mustSSH(t, l, "h1", "cat /etc/machine-id"), mustSSH(t, l, "h2", "cat /etc/machine-id"); id1 == id2 {
		t.Errorf("both hosts have the machine-id %s", id1)
	}
	if l.Hosts[0].HostKey == l.Hosts[1].HostKey {
		t.Errorf("both hosts have the key %s", l.Hosts[0].HostKey)
	}
	if got, err := ssh(t, l, "", "h1", "systemctl is-system-running --wait"); got != "running" {
		t.Errorf("systemd is %s, %v", got, err)
	}
	// What a Kubernetes host does to its kernel must be allowed.
	mustSSH(t, l, "h1", `set -e
		echo 1 >/proc/sys/net/ipv4/ip_forward
		echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
		mkdir /sys/fs/cgroup/*/probe && rmdir /sys/fs/cgroup/*/probe
		ip link add probe type vxlan id 1 dstport 8472 dev eth0 && ip link del probe
		mkdir /run/probe && mount -t tmpfs none /run/probe && umount /run/probe
		ip route get 10.96.0.1 | grep -q 'dev eth0'
		findmnt --noheadings --output PROPAGATION / | grep -q shared
		ping -c 1 -W 1 h2 && ping -c 1 -W 1 ::1`)
	if got := mustSSH(t, l, "h1", "ls /usr/local/bin /etc/kubernetes /opt/cni 2>/dev/null; command -v containerd iptables; true"); strings.Contains(got, "/usr/bin") {
		t.Errorf("a bare host has %s", got)
	}
	// The machine itself must not drop what pods of different hosts send each other.
	if got, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables"); err == nil && string(got) != "0\n" {
		t.Errorf("bridge-nf-call-iptables is %s", got)
	}
}

func TestSudo(t *testing.T) {
	l := up(t, "lab", lab.Options{User: lab.UserSudoWithPwd})
	password, err := l.Password()
	must(t, err)
	if got := mustSSH(t, l, "ops@h1", "sudo -n id -u"); got != "0" {
		t.Errorf("ops with sudo is user %s", got)
	}
	if got, err := ssh(t, l, "", "ops-pw@h1", "sudo -n id -u"); err == nil {
		t.Errorf("ops-pw needs no password: %s", got)
	}
	if got, err := ssh(t, l, "wrong\n", "ops-pw@h1", "sudo -S -p '' id -u"); err == nil {
		t.Errorf("ops-pw gets in with a wrong password: %s", got)
	}
	if got, err := ssh(t, l, password+"\n", "h1", "sudo -S -p '' id -u"); err != nil || got != "0" {
		t.Errorf("ops-pw with its password: %s, %v", got, err)
	}
}

func TestPowerOffAndOn(t *testing.T) {
	l := up(t, "lab", lab.Options{Hosts: 2})
	const facts = "cat /etc/machine-id /etc/kept /var/lib/etcd/kept; hostname -I; ls /run/lost 2>/dev/null; true"
	mustSSH(t, l, "h1", "echo root >/etc/kept; echo volume >/var/lib/etcd/kept; sync")
	before := mustSSH(t, l, "h1", facts)
	mustSSH(t, l, "h1", "touch /run/lost")
	for range 2 {
		must(t, l.Kill(t.Context(), "h1"))
		must(t, l.Kill(t.Context(), "h1")) // off already
		if got, err := ssh(t, l, "", "h1", "hostname"); err == nil {
			t.Fatalf("a host that is off says %s", got)
		}
		must(t, l.Start(t.Context(), "h1"))
		if got := mustSSH(t, l, "h1", facts); got != before {
			t.Errorf("after power on:\n%s\nbefore:\n%s", got, before)
		}
	}
	must(t, l.Start(t.Context(), "h1")) // on already
	if got := mustSSH(t, l, "h2", "hostname"); got != "h2" {
		t.Errorf("the other host says %s", got)
	}
}

// A wiped host has lost everything but what it is known by.
func TestWipe(t *testing.T) {
	l := up(t, "lab", lab.Options{Hosts: 2})
	mustSSH(t, l, "h1", "echo root >/etc/lost; echo volume >/var/lib/etcd/lost")
	machine := mustSSH(t, l, "h1", "cat /etc/machine-id")
	must(t, l.Wipe(t.Context(), "h1"))
	if got, err := ssh(t, l, "", "h1", "hostname"); err == nil {
		t.Errorf("it is on, and says %s", got)
	}
	must(t, l.Start(t.Context(), "h1"))
	if got := mustSSH(t, l, "h1", "hostname; ls /etc/lost /var/lib/etcd 2>/dev/null; getent hosts h2 >/dev/null && echo knows h2"); got != "h1\n/var/lib/etcd:\nknows h2" {
		t.Errorf("it says %q", got)
	}
	if got := mustSSH(t, l, "h1", "cat /etc/machine-id"); got == machine {
		t.Errorf("it has its old machine-id %s", got)
	}
	again, err := lab.Open(t.Context(), l.Dir)
	must(t, err)
	if diff := cmp.Diff(l.Hosts, again.Hosts, cmpopts.IgnoreUnexported(lab.Host{}), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("hosts (-before +after):\n%s", diff)
	}
}

// A cut connection gets silence, not an error, and goes on when the cable is back.
func TestCutAndHeal(t *testing.T) {
	l := up(t, "lab", lab.Options{Hosts: 2})
	session := exec.CommandContext(t.Context(), "ssh", "-F", l.Path(lab.SSHConfig), "h2", "cat")
	in, err := session.StdinPipe()
	must(t, err)
	out, err := session.StdoutPipe()
	must(t, err)
	must(t, session.Start())
	lines := make(chan string)
	go func() {
		defer close(lines)
		buf := make([]byte, 64)
		for {
			n, err := out.Read(buf)
			if err != nil {
				return
			}
			lines <- string(buf[:n])
		}
	}()
	say := func(s string) {
		t.Helper()
		_, err := in.Write([]byte(s))
		must(t, err)
	}
	say("before")
	if got := <-lines; got != "before" {
		t.Fatalf("session says %q", got)
	}

	must(t, l.Cut(t.Context(), "h2"))
	must(t, l.Cut(t.Context(), "h2")) // cut already
	say("during")
	if got, err := ssh(t, l, "", "h2", "hostname"); err == nil {
		t.Errorf("a host that is cut says %s", got)
	}
	if _, err := l.Output(t.Context(), "h2", "ping", "-c", "1", "-W", "1", "h1"); err == nil {
		t.Error("a host that is cut reaches its peer")
	}
	select {
	case got, open := <-lines:
		t.Errorf("the session of a host that is cut: %q, open %v", got, open)
	default:
	}

	must(t, l.Heal(t.Context(), "h2"))
	select {
	case got := <-lines:
		if got != "during" {
			t.Errorf("after heal, the session says %q", got)
		}
	case <-time.After(30 * time.Second):
		t.Error("the session does not go on after heal")
	}
	must(t, in.Close())
	must(t, session.Wait())

	must(t, l.Cut(t.Context(), "h1"))
	must(t, l.Kill(t.Context(), "h1"))
	if err := l.Cut(t.Context(), "h1"); err == nil || !strings.Contains(err.Error(), "lab start h1") {
		t.Errorf("cut of a host that is off: %v", err)
	}
	must(t, l.Start(t.Context(), "h1"))
	mustSSH(t, l, "h1", "hostname")
}

// Whoever talks to a host that is powered off hears nothing, not even an end.
func TestPowerOffIsSilent(t *testing.T) {
	l := up(t, "lab", lab.Options{})
	conn, err := net.Dial("tcp", net.JoinHostPort(l.Hosts[0].Address.String(), "22"))
	must(t, err)
	defer conn.Close()
	reader := bufio.NewReader(conn)
	if greeting, err := reader.ReadString('\n'); err != nil {
		t.Fatalf("greeted by %q, %v", greeting, err)
	}
	must(t, l.Kill(t.Context(), "h1"))
	must(t, conn.SetReadDeadline(time.Now().Add(2*time.Second)))
	if said, err := reader.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it says %q, %v", said, err)
	}
}

func TestExecAndCopy(t *testing.T) {
	l := up(t, "lab", lab.Options{})
	var out bytes.Buffer
	must(t, l.Exec(t.Context(), "h1", lab.Streams{In: strings.NewReader("through"), Out: &out}, "cat"))
	if out.String() != "through" {
		t.Errorf("cat says %q", out.String())
	}
	var exit *exec.ExitError
	if err := l.Exec(t.Context(), "h1", lab.Streams{}, "sh", "-c", "exit 7"); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("exit 7: %v", err)
	}
	if _, err := l.Output(t.Context(), "h9", "true"); err == nil || !strings.Contains(err.Error(), "h1 to h1") {
		t.Errorf("a host that is not there: %v", err)
	}
	source := filepath.Join(t.TempDir(), "script")
	must(t, os.WriteFile(source, []byte("#!/bin/sh\necho ran\n"), 0o755))
	must(t, l.Cut(t.Context(), "h1")) // needs no network
	must(t, l.Copy(t.Context(), "h1", source, "/tmp/new/script"))
	if got, err := l.Output(t.Context(), "h1", "/tmp/new/script"); err != nil || got != "ran\n" {
		t.Errorf("the copied script: %q, %v", got, err)
	}
}

func TestUpCarriesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	t.Cleanup(func() { must(t, lab.Down(context.Background(), dir, nil)) })
	o := lab.Options{Dir: dir, Hosts: 3, Log: t.Output()}
	// Interrupted ever later, until it comes through.
	interrupted := 0
	for limit := 50 * time.Millisecond; ; limit += 150 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := lab.Up(ctx, o)
		cancel()
		if err == nil {
			break
		}
		interrupted++
	}
	if interrupted == 0 {
		t.Error("was never interrupted")
	}
	l, err := lab.Open(t.Context(), dir)
	must(t, err)
	key := l.Hosts[0].HostKey
	must(t, l.Kill(t.Context(), "h1"))

	// A host that is off is started, a lost folder is written anew, more hosts join; nothing changes on those there are.
	must(t, os.RemoveAll(dir))
	o.Hosts, o.ControlPlanes = 4, 3
	l, err = lab.Up(t.Context(), o)
	must(t, err)
	if l.Hosts[0].HostKey != key {
		t.Error("h1 has another host key")
	}
	for _, h := range l.Hosts {
		if got := mustSSH(t, l, h.Name, "hostname; getent hosts h4 | cut -d' ' -f1"); got != h.Name+"\n"+l.Hosts[3].Address.String() {
			t.Errorf("%s says %q", h.Name, got)
		}
	}
	o.Hosts = 3
	if _, err := lab.Up(t.Context(), o); err == nil || !strings.Contains(err.Error(), "lab down") {
		t.Errorf("fewer hosts than there are: %v", err)
	}
}

func TestLabsKeepApart(t *testing.T) {
	one, two := up(t, "one", lab.Options{}), up(t, "two", lab.Options{})
	if one.Hosts[0].Address == two.Hosts[0].Address {
		t.Errorf("both labs have the address %s", one.Hosts[0].Address)
	}
	if _, err := one.Output(t.Context(), "h1", "ping", "-c", "1", "-W", "1", two.Hosts[0].Address.String()); err == nil {
		t.Error("a host reaches one of another lab")
	}
	must(t, lab.Down(t.Context(), one.Dir, nil))
	must(t, lab.Down(t.Context(), one.Dir, nil)) // down already
	if _, err := os.Stat(one.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of a lab that is down: %v", err)
	}
	if _, err := lab.Open(t.Context(), one.Dir); err == nil {
		t.Error("a lab that is down can be opened")
	}
	mustSSH(t, two, "h1", "true")
}
