package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// bootTime is how long a host may take from power on to sshd; it needs about a second.
const bootTime = 60 * time.Second

// Kill powers a host off without a warning to anything that runs on it, or that talks to it. What is on its disks stays.
func (l *Lab) Kill(ctx context.Context, host string) error {
	h, err := l.Host(host)
	if err != nil {
		return err
	}
	if running, err := l.running(ctx, h); err != nil || !running {
		return err
	}
	// The kernel lives on and would end the connections of the processes that it kills: a machine without power says nothing.
	if err := l.Cut(ctx, host); err != nil {
		return err
	}
	_, err = l.d.run(ctx, nil, "kill", h.container)
	return err
}

// Start powers a host on and returns once it takes logins. Its network cable is plugged in, even if it was cut before.
func (l *Lab) Start(ctx context.Context, host string) error {
	h, err := l.Host(host)
	if err != nil {
		return err
	}
	if running, err := l.running(ctx, h); err != nil {
		return err
	} else if running {
		return l.Heal(ctx, host)
	}
	if _, err := l.d.run(ctx, nil, "start", h.container); err != nil {
		return err
	}
	return l.waitForLogin(ctx, h)
}

// Wipe replaces a host by a bare one of the same name, address and SSH host key, as if it had got new disks and a new
// system. The host is off afterwards.
func (l *Lab) Wipe(ctx context.Context, host string) error {
	h, err := l.Host(host)
	if err != nil {
		return err
	}
	id, err := l.ensureIdentity()
	if err != nil {
		return err
	}
	key, err := l.fetch(ctx, h, hostKeyPath)
	if err != nil {
		return err
	}
	subnet, err := l.ensureNetwork(ctx)
	if err != nil {
		return err
	}
	flags, err := machineFlags(subnet)
	if err != nil {
		return err
	}
	image, err := imageTag()
	if err != nil {
		return err
	}
	if _, err := l.d.run(ctx, nil, "rm", "--force", "--volumes", h.container); err != nil {
		return err
	}
	if err := l.createHost(ctx, &h, flags, image, key); err != nil {
		return err
	}
	return l.deliver(ctx, h, l.userFiles(id))
}

// Cut pulls a host's network cable, with all that hangs on it: connections get no answer and no error.
func (l *Lab) Cut(ctx context.Context, host string) error { return l.setLink(ctx, host, "down") }

// Heal plugs the cable in again.
func (l *Lab) Heal(ctx context.Context, host string) error { return l.setLink(ctx, host, "up") }

// setLink sets the machine's end of the host's cable. The host's own end stays as it is and only loses its carrier, as
// with a real cable; setting that one would take the host's routes away and fail its connections at once.
func (l *Lab) setLink(ctx context.Context, host, state string) error {
	h, err := l.Host(host)
	if err != nil {
		return err
	}
	if running, err := l.running(ctx, h); err != nil {
		return err
	} else if !running {
		return fmt.Errorf("%s is off; hint: lab start %s", host, host)
	}
	out, err := l.Output(ctx, host, "cat", "/sys/class/net/eth0/iflink")
	if err != nil {
		return err
	}
	index, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		return fmt.Errorf("index of the peer of %s's eth0: %w", host, err)
	}
	link, err := net.InterfaceByIndex(index)
	if err != nil {
		return fmt.Errorf("peer of %s's eth0: %w; hint: Docker has to run on this machine", host, err)
	}
	bin, err := lookPath("ip")
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, bin, "link", "set", "dev", link.Name, state).CombinedOutput(); err != nil {
		return fmt.Errorf("ip link set dev %s %s: %w; hint: needs root", link.Name, state, withOutput(err, string(out)))
	}
	return nil
}

// running asks Docker, since hosts go off by themselves too.
func (l *Lab) running(ctx context.Context, h Host) (bool, error) {
	out, err := l.d.run(ctx, nil, "inspect", "--type", "container", "--format", "{{.State.Running}}", h.container)
	return strings.TrimSpace(out) == "true", err
}

// waitForLogin waits for the greeting of the host's sshd.
func (l *Lab) waitForLogin(ctx context.Context, h Host) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := greet(ctx, net.JoinHostPort(h.Address.String(), "22"))
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return fmt.Errorf("wait for %s: %w", h.Name, ctx.Err())
			}
			return fmt.Errorf("%s at %s takes no logins: %w; hint: docker logs %s", h.Name, h.Address, err, h.container)
		}
	}
}

// greet connects to an SSH server and reads its greeting.
func greet(ctx context.Context, address string) error {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "SSH-2.0-") {
		return fmt.Errorf("no SSH server, it says %q", line)
	}
	return nil
}
