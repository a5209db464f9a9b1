// Package sshdtest is an SSH server for tests, in the test's own process and on a free port of 127.0.0.1.
//
// It does what OpenSSH's sshd does as far as clients can tell: it runs command lines by /bin/sh in a process group of
// their own, closes their pipes and nothing more when a session ends, serves SFTP, forwards to TCP and unix addresses,
// and limits the sessions of a connection. The commands and files are those of the machine that the test runs on. A
// server can be made to fail: Drop, Freeze, and the fields of Config.
package sshdtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/myadm/myadm/host/ssh/quote"
)

// Config says how a server behaves. The zero value lets everybody in who has Key, as root.
type Config struct {
	HostKeys    []ssh.Signer // none: one ED25519 key, made for the server
	MaxSessions int          // 0: 10, as sshd
	Silent      bool         // accept connections and say nothing

	// Sudo makes the login a user who is not root. It is a shell script that stands for sudo.
	Sudo string

	// NoSudo makes the login a user who is not root, on a host without sudo.
	NoSudo bool

	// NoSockets refuses to open unix sockets: sshd does for a user who may not, and for all users if it is told to.
	NoSockets bool

	// Own are folders of this machine in whose place the server's commands find folders of the server's own, as hosts do
	// that are not the same machine. It takes root.
	Own []string

	// Files are what the folders of Own hold at first, by their paths on the host.
	Files map[string]string

	// Profile is run by the shell before every command, as ~/.bashrc is.
	Profile string

	// Subsystem serves SFTP only as sshd's subsystem: no sftp-server is found.
	Subsystem bool
}

// Server is a running server.
type Server struct {
	Addr   string // 127.0.0.1:PORT
	Key    string // the path of a private key that is let in
	config Config
	auth   *ssh.ServerConfig
	bin    string // a folder that comes first in PATH
	mounts string // puts Own in place

	mu         sync.Mutex
	authorized map[string]bool
	conns      map[net.Conn]*frozen
	stopped    bool
	accepted   atomic.Int64
	most       atomic.Int64
	wg         sync.WaitGroup
}

// New starts a server that ends with the test.
func New(t testing.TB, config Config) *Server {
	t.Helper()
	if len(config.HostKeys) == 0 {
		config.HostKeys = []ssh.Signer{NewKey(t)}
	}
	if config.MaxSessions == 0 {
		config.MaxSessions = 10
	}
	s := &Server{config: config, bin: t.TempDir(), conns: map[net.Conn]*frozen{}, authorized: map[string]bool{}}
	s.Key = filepath.Join(t.TempDir(), "id")
	s.Authorize(WriteKey(t, s.Key))
	s.auth = &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.authorized[string(key.Marshal())] {
				return nil, nil
			}
			return nil, errDenied
		},
	}
	for _, key := range config.HostKeys {
		s.auth.AddHostKey(key)
	}
	s.tools(t)
	s.own(t)

	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = l.Addr().String()
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.Serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		s.stopped = true
		s.mu.Unlock()
		s.Drop()
		s.wg.Wait()
	})
	return s
}

// tools are commands that come before the machine's own: an id that says who the login is, the
// sudo of Config, and an sftp-server for machines without one.
func (s *Server) tools(t testing.TB) {
	uid := "0"
	if s.config.Sudo != "" || s.config.NoSudo {
		uid = "1000"
	}
	if s.config.Sudo != "" {
		write(t, filepath.Join(s.bin, "sudo"), "#!/bin/sh\n"+s.config.Sudo, 0o755)
	}
	write(t, filepath.Join(s.bin, "id"), "#!/bin/sh\necho "+uid+"\n", 0o755)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.bin, "sftp-server"), "#!/bin/sh\n"+serveVariable+"=1 exec "+quote.Word(self)+"\n", 0o755)
}

// own makes the folders of Config.Own, which a command sees because it runs in a mount namespace with them.
func (s *Server) own(t testing.TB) {
	for i, folder := range s.config.Own {
		mine := filepath.Join(t.TempDir(), strconv.Itoa(i))
		if err := os.Mkdir(mine, 0o755); err != nil {
			t.Fatal(err)
		}
		for path, content := range s.config.Files {
			rest, below := strings.CutPrefix(path, folder+"/")
			if !below {
				continue
			}
			place := filepath.Join(mine, filepath.FromSlash(rest))
			if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, place, content, 0o644)
		}
		s.mounts += quote.Argv("mount", "--bind", mine, folder) + " && "
	}
}

func write(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// NewKey makes an ED25519 key.
func NewKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Authorize lets another key in.
func (s *Server) Authorize(key ssh.PublicKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.authorized[string(key.Marshal())] = true
}

// HostKey is the server's first host key, as Target pins it.
func (s *Server) HostKey() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.config.HostKeys[0].PublicKey())))
}

// Port is the port of Addr.
func (s *Server) Port() int { return portOf(s.Addr) }

// Accepted tells how many connections were accepted.
func (s *Server) Accepted() int { return int(s.accepted.Load()) }

// Open tells how many connections are open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// MostSessions tells how many sessions one connection had open at once at most.
func (s *Server) MostSessions() int { return int(s.most.Load()) }

// Drop cuts all connections.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn, f := range s.conns {
		f.thaw()
		conn.Close()
	}
}

// Freeze makes all connections silent, as when a host is switched off: nothing is read, nothing is answered, nothing is closed.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.conns {
		f.freeze()
	}
}
