package ssh_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/sync/errgroup"

	cryptossh "golang.org/x/crypto/ssh"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/ssh"
	"github.com/myadm/myadm/host/ssh/sshdtest"
)

// asked is a user who gives answers and counts the questions.
type asked struct {
	n       atomic.Int64
	answers []string // the last one again and again
}

func (a *asked) prompt(_ context.Context, question string) ([]byte, error) {
	i := int(a.n.Add(1)) - 1
	if question == "" {
		return nil, errors.New("a question without words")
	}
	return []byte(a.answers[min(i, len(a.answers)-1)]), nil
}

func TestAuthFails(t *testing.T) {
	server := sshdtest.New(t, sshdtest.Config{})
	dir := t.TempDir()
	wrong := filepath.Join(dir, "wrong")
	sshdtest.WriteKey(t, wrong)
	garbage := writeFile(t, "garbage", "this is no key")
	tests := []struct {
		name, file, says string
	}{
		{"not authorized", wrong, "tried key SHA256:"},
		{"missing", filepath.Join(dir, "missing"), "no such file"},
		{"no key", garbage, "garbage"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			to := target(server)
			to.KeyFile = tt.file
			before := server.Accepted()
			_, err := ssh.Dial(t.Context(), to, isolated(ssh.Options{RetryFor: time.Minute}))
			var auth *ssh.AuthError
			if !errors.As(err, &auth) || auth.Host != "h1" || auth.User != "ops" || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v", err)
			}
			if n := server.Accepted() - before; n != 1 {
				t.Errorf("%d attempts", n)
			}
		})
	}
}

// encrypted is a key whose passphrase is "secret". It is not made by the tests because that takes its time: making a
// passphrase slow to guess makes it slow to use, but this one has the least number of rounds (ssh-keygen -a 1).
const encrypted = "testdata/encrypted_key"

func encryptedKey(t *testing.T) cryptossh.PublicKey {
	t.Helper()
	data, err := os.ReadFile(encrypted + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	key, _, _, _, err := cryptossh.ParseAuthorizedKey(data)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestPassphrases(t *testing.T) {
	tests := []struct {
		name    string
		answers []string // nil: nobody is there
		asks    int64
		says    string // in the error
	}{
		{"right", []string{"secret"}, 1, ""},
		{"right the second time", []string{"typo", "secret"}, 2, ""},
		{"wrong", []string{"typo"}, 3, "the passphrase is wrong"},
		{"nobody", nil, 0, "there is nobody to ask"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var servers []*sshdtest.Server
			for range 3 {
				servers = append(servers, sshdtest.New(t, sshdtest.Config{}))
			}
			public := encryptedKey(t)
			user := &asked{answers: tt.answers}
			opts := isolated(ssh.Options{})
			if tt.answers != nil {
				opts.Prompt = user.prompt
			}
			dialer := ssh.NewDialer(opts)
			if tt.says != "" {
				servers = servers[:1]
			}
			var all errgroup.Group
			for _, s := range servers {
				s.Authorize(public)
				all.Go(func() error {
					to := target(s)
					to.KeyFile = encrypted
					h, err := dialer.Dial(t.Context(), to)
					if err == nil {
						h.Close()
					}
					return err
				})
			}
			err := all.Wait()
			if (tt.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v", err)
			}
			if n := user.n.Load(); n != tt.asks {
				t.Errorf("asked %d times, want %d", n, tt.asks)
			}
		})
	}
}

// TestPassphraseOnlyWhenWanted: a host that lets another key in is no reason to ask.
func TestPassphraseOnlyWhenWanted(t *testing.T) {
	server := sshdtest.New(t, sshdtest.Config{})
	config := writeFile(t, "config", fmt.Sprintf("Host *\n IdentityFile %s\n IdentityFile %s\n", encrypted, server.Key))
	user := &asked{answers: []string{"secret"}}
	to := target(server)
	to.KeyFile = ""
	h, err := ssh.Dial(t.Context(), to, isolated(ssh.Options{UserConfigFile: config, Prompt: user.prompt}))
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	if user.n.Load() != 0 {
		t.Error("the passphrase of a key that is not let in was asked for")
	}
}

func TestAgent(t *testing.T) {
	server := sshdtest.New(t, sshdtest.Config{})
	data, err := os.ReadFile(server.Key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := cryptossh.ParseRawPrivateKey(data)
	if err != nil {
		t.Fatal(err)
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "agent")
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go agent.ServeAgent(keys, conn) //nolint:errcheck // until the client closes it
		}
	}()
	public, err := cryptossh.ParsePrivateKey(data)
	if err != nil {
		t.Fatal(err)
	}
	pub := writeFile(t, "id.pub", string(cryptossh.MarshalAuthorizedKey(public.PublicKey())))
	other := filepath.Join(t.TempDir(), "other")
	sshdtest.WriteKey(t, other)
	tests := []struct {
		name, keyFile string
		ok            bool
	}{
		{"any key of the agent", "", true},
		{"the key of a public file", pub, true},
		{"not when another key is named", other, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			to := target(server)
			to.KeyFile = tt.keyFile
			h, err := ssh.Dial(t.Context(), to, isolated(ssh.Options{AgentSocket: socket}))
			if err == nil {
				h.Close()
			}
			if (err == nil) != tt.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	silent := sshdtest.New(t, sshdtest.Config{Silent: true})
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := ssh.Target{Name: "h1", Address: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, User: "root", HostKey: silent.HostKey()}
	l.Close()
	tests := []struct {
		name string
		to   ssh.Target
		opts ssh.Options
		says string
		max  time.Duration
	}{
		{"refused", closed, ssh.Options{}, "connection refused", time.Second},
		{"refused for a while", closed, ssh.Options{RetryFor: 500 * time.Millisecond}, "connection refused", 3 * time.Second},
		{"silent", target(silent), ssh.Options{ConnectTimeout: 200 * time.Millisecond}, "no login within 200ms", 3 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			_, err := ssh.Dial(t.Context(), tt.to, isolated(tt.opts))
			var unreachable *ssh.UnreachableError
			if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v", err)
			}
			if took := time.Since(start); took > tt.max || took < tt.opts.RetryFor/2 {
				t.Errorf("it took %s", took)
			}
		})
	}
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := ssh.Dial(ctx, target(silent), isolated(ssh.Options{RetryFor: time.Minute}))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 3*time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

// TestRetryWhileBooting: the host answers nothing at first, then something that is not SSH yet, then it is up.
func TestRetryWhileBooting(t *testing.T) {
	server := sshdtest.New(t, sshdtest.Config{})
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	to := target(server)
	to.Port = l.Addr().(*net.TCPAddr).Port
	booted := make(chan error, 1)
	go func() {
		<-time.After(300 * time.Millisecond)
		l, err := listen.Listen(t.Context(), "tcp", address)
		if err != nil {
			booted <- err
			return
		}
		defer l.Close()
		for i := 0; ; i++ {
			conn, err := l.Accept()
			if err != nil {
				booted <- err
				return
			}
			if i == 0 {
				conn.Close()
				continue
			}
			booted <- nil
			server.Serve(conn)
			return
		}
	}()
	h, err := ssh.Dial(t.Context(), to, isolated(ssh.Options{RetryFor: time.Minute}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Run(t.Context(), host.Command("true")); err != nil {
		t.Error(err)
	}
	h.Close()
	if err := <-booted; err != nil {
		t.Error(err)
	}
}
