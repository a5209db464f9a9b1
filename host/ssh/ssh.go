// Package ssh is a host over SSH: golang.org/x/crypto/ssh for the connection and commands, github.com/pkg/sftp for files.
//
//	dialer := ssh.NewDialer(ssh.Options{...})
//	h, err := dialer.Dial(ctx, ssh.Target{Name: "cp-1", Address: "10.0.0.1", User: "ops"})
//
// There is one connection for each host, with many sessions on it. A user who is not root becomes root by sudo, for
// commands and for files. One session, the warden, stays for as long as the connection: it ends what still runs on
// the host when a context ends, and everything when the connection does. Nothing is installed and nothing stays behind.
//
// The host's key is always checked: against the one pinned in Target, or against known_hosts.
package ssh

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// Target says which host, and how to get in. What is empty comes from the user's ssh_config, and then from ssh's defaults.
type Target struct {
	Name             string // in messages; empty: Address
	Address          string // an IP address, a host name, or a Host of ssh_config
	User             string
	Port             int
	KeyFile          string // a private key; then no other is tried
	HostKey          string // in authorized_keys form; then known_hosts is not asked
	Bastion          string // as ProxyJump: [user@]host[:port], several joined by commas; "none": directly
	SudoPasswordFile string // its first line is the password for sudo
}

// Options are the same for all hosts.
type Options struct {
	KnownHostsFiles   []string // the first is where new keys are added; empty: UserKnownHostsFile of ssh_config, ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts
	UserConfigFile    string   // an ssh_config; empty: ~/.ssh/config and /etc/ssh/ssh_config
	AgentSocket       string   // empty: $SSH_AUTH_SOCK
	AcceptNewHostKeys bool     // add the keys of unknown hosts to known_hosts. Changed keys are refused all the same

	ConnectTimeout time.Duration // for one attempt, up to being let in; 0: ConnectTimeout of ssh_config, or 15 s
	RetryFor       time.Duration // how long to try again while nothing answers; 0: one attempt
	KeepAlive      time.Duration // a host that answers nothing for three times as long is lost; 0: 15 s, negative: never

	SudoPassword []byte // for hosts without a SudoPasswordFile; empty: Prompt

	// Prompt asks the user for a secret. One question is asked once, however many hosts need the answer. nil: nobody is there.
	Prompt func(ctx context.Context, question string) ([]byte, error)

	Logger *slog.Logger // nil: silent
}

const (
	defaultConnectTimeout = 15 * time.Second
	defaultKeepAlive      = 15 * time.Second
)

// Dialer opens connections that share answers of the user, known hosts and bastions.
type Dialer struct {
	opts    Options
	log     *slog.Logger
	config  *userConfig
	known   *knownHosts
	answers *answers
	relays  *relays
}

// NewDialer returns a Dialer. It reads nothing yet.
func NewDialer(opts Options) *Dialer {
	d := &Dialer{
		opts: opts, log: opts.Logger, config: newUserConfig(opts.UserConfigFile),
		known: newKnownHosts(), answers: newAnswers(opts.Prompt), relays: newRelays(),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d
}

// Dial opens a connection with a Dialer of its own.
func Dial(ctx context.Context, target Target, opts Options) (*Host, error) {
	return NewDialer(opts).Dial(ctx, target)
}

// Dial connects to a host, proves its key, logs in and becomes root. Its errors are an *UnreachableError, a
// *HostKeyUnknownError, a *HostKeyChangedError, an *AuthError or a *SudoError, or come from the user's files.
func (d *Dialer) Dial(ctx context.Context, target Target) (*Host, error) {
	r, err := d.config.resolve(target, d.opts)
	if err != nil {
		return nil, err
	}
	l, err := d.connect(ctx, r)
	if err != nil {
		return nil, err
	}
	h := newHost(r, l, d.log.With("host", r.name))
	if err := h.becomeRoot(ctx, func(ctx context.Context) ([]byte, error) { return d.sudoPassword(ctx, r) }); err != nil {
		h.Close()
		return nil, err
	}
	// Nearly every host is asked for files. Whoever asks first waits for this, and is told why it fails.
	go h.sftpClient(context.WithoutCancel(ctx)) //nolint:errcheck // likewise
	go h.keepAlive(keepAliveInterval(d.opts.KeepAlive))
	return h, nil
}

func keepAliveInterval(d time.Duration) time.Duration {
	if d == 0 {
		return defaultKeepAlive
	}
	return d
}

// sudoPassword finds the password that sudo asks for: the host's file, the one for all hosts, the user.
func (d *Dialer) sudoPassword(ctx context.Context, r *route) ([]byte, error) {
	if r.sudoPasswordFile != "" {
		data, err := os.ReadFile(r.sudoPasswordFile)
		if err != nil {
			return nil, err
		}
		line, _, _ := bytes.Cut(data, []byte("\n"))
		return bytes.TrimSuffix(line, []byte("\r")), nil
	}
	if len(d.opts.SudoPassword) > 0 {
		return d.opts.SudoPassword, nil
	}
	return d.answers.ask(ctx, fmt.Sprintf("sudo password for %s: ", r.user))
}
