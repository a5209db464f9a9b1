package sshdtest

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// Serve serves one connection until it is closed.
func (s *Server) Serve(conn net.Conn) {
	s.accepted.Add(1)
	f := &frozen{Conn: conn}
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		conn.Close()
		return
	}
	s.conns[conn] = f
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
		conn.Close()
	}()
	if s.config.Silent {
		io.Copy(io.Discard, conn) //nolint:errcheck // until the client gives up
		return
	}
	sc, channels, requests, err := ssh.NewServerConn(f, s.auth)
	if err != nil {
		return
	}
	defer sc.Close()
	go ssh.DiscardRequests(requests) // sshd, too, answers keepalive@openssh.com with a failure
	var open atomic.Int64
	for c := range channels {
		switch c.ChannelType() {
		case "session":
			n := open.Add(1)
			if n > int64(s.config.MaxSessions) {
				open.Add(-1)
				c.Reject(ssh.ConnectionFailed, "open failed") //nolint:errcheck // the connection is gone
				continue
			}
			for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
			}
			s.wg.Go(func() {
				defer open.Add(-1)
				s.session(c)
			})
		case "direct-tcpip":
			var to struct {
				Host  string
				Port  uint32
				From  string
				FPort uint32
			}
			if ssh.Unmarshal(c.ExtraData(), &to) == nil {
				s.wg.Go(func() { forward(c, "tcp", net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port)))) })
			}
		case "direct-streamlocal@openssh.com":
			if s.config.NoSockets {
				c.Reject(ssh.ConnectionFailed, "open failed") //nolint:errcheck // the connection is gone
				continue
			}
			var to struct {
				Path     string
				Reserved string
				Zero     uint32
			}
			if ssh.Unmarshal(c.ExtraData(), &to) == nil {
				s.wg.Go(func() { forward(c, "unix", to.Path) })
			}
		default:
			c.Reject(ssh.UnknownChannelType, c.ChannelType()) //nolint:errcheck // the connection is gone
		}
	}
}

func forward(c ssh.NewChannel, network, address string) {
	far, err := (&net.Dialer{}).DialContext(context.Background(), network, address)
	if err != nil {
		c.Reject(ssh.ConnectionFailed, err.Error()) //nolint:errcheck // the connection is gone
		return
	}
	ch, requests, err := c.Accept()
	if err != nil {
		far.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	go func() {
		io.Copy(far, ch) //nolint:errcheck // either end was closed
		far.Close()
	}()
	io.Copy(ch, far) //nolint:errcheck // either end was closed
	ch.Close()
	far.Close()
}

// session serves a session: one command or the SFTP subsystem.
func (s *Server) session(c ssh.NewChannel) {
	ch, requests, err := c.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	for r := range requests {
		switch r.Type {
		case "exec":
			var command struct{ Line string }
			ok := ssh.Unmarshal(r.Payload, &command) == nil
			r.Reply(ok, nil) //nolint:errcheck // the connection is gone
			if ok {
				s.exec(ch, requests, command.Line)
			}
			return
		case "subsystem":
			r.Reply(true, nil) //nolint:errcheck // the connection is gone
			go ssh.DiscardRequests(requests)
			if server, err := sftp.NewServer(ch); err == nil {
				server.Serve() //nolint:errcheck // until the client closes it
			}
			return
		default:
			r.Reply(false, nil) //nolint:errcheck // the connection is gone
		}
	}
}

// exec runs a command line as sshd does: in a session of its own (setsid), with pipes that are closed and a process that
// lives on when the channel is closed.
func (s *Server) exec(ch ssh.Channel, requests <-chan *ssh.Request, line string) {
	cmd := exec.Command("/bin/sh", "-c", s.config.Profile+"\n"+line)
	cmd.Env = append(os.Environ(), "PATH="+s.bin+":/usr/sbin:/usr/bin:/sbin:/bin")
	if s.config.NoSudo {
		cmd.Env = append(os.Environ(), "PATH="+s.bin)
	}
	if s.config.Subsystem {
		cmd.Args[2] = strings.ReplaceAll(line, "sftp-server", "sftp-server-that-is-not-there")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.mounts != "" {
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
		cmd.Args[2] = s.mounts + cmd.Args[2]
	}
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	stderr, _ := cmd.StderrPipe()
	if err := cmd.Start(); err != nil {
		status(ch, 127)
		return
	}
	ended := make(chan struct{})
	go func() { // the channel of requests ends when the client closes the channel or the connection is gone
		ssh.DiscardRequests(requests)
		close(ended)
	}()
	go func() {
		io.Copy(stdin, ch) //nolint:errcheck // the command may not read all
		stdin.Close()
	}()
	copied := make(chan struct{}, 2)
	for from, to := range map[io.Reader]io.Writer{stdout: ch, stderr: ch.Stderr()} {
		go func() {
			io.Copy(to, from) //nolint:errcheck // the client may have gone
			copied <- struct{}{}
		}()
	}
	for range 2 {
		select {
		case <-copied:
		case <-ended: // a client that is gone reads nothing: the command learns of it when it writes
			stdin.Close()
			stdout.Close()
			stderr.Close()
			cmd.Wait() //nolint:errcheck // nobody is there to be told
			return
		}
	}
	err := cmd.Wait()
	state, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err != nil && state.Signaled() {
		ch.SendRequest("exit-signal", false, ssh.Marshal(struct { //nolint:errcheck // the client has gone
			Signal    string
			Core      bool
			Text, Tag string
		}{Signal: signalNames[state.Signal()]}))
		return
	}
	status(ch, cmd.ProcessState.ExitCode())
}

func status(ch ssh.Channel, code int) {
	ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)})) //nolint:errcheck // the client has gone
}

var signalNames = map[syscall.Signal]string{
	syscall.SIGTERM: "TERM", syscall.SIGKILL: "KILL", syscall.SIGPIPE: "PIPE", syscall.SIGSEGV: "SEGV", syscall.SIGABRT: "ABRT",
	syscall.SIGHUP: "HUP", syscall.SIGINT: "INT",
}
