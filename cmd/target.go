package cmd

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/local"
	"github.com/myadm/myadm/host/ssh"
	"github.com/myadm/myadm/host/trace"
	"github.com/myadm/myadm/workflow"
)

// target is the flags that say on which hosts a command acts, and how they are reached.
type target struct {
	file    string
	hosts   []string
	version string

	bundle                        string
	mirror, mirrorCA, mirrorLogin string
	delivery                      string
	signatureRoots                string
	verifySignatures              bool

	sshKey            string
	bastion           string
	knownHosts        []string
	acceptNewHostKeys bool
	sudoPasswordFile  string
	connectTimeout    time.Duration
	retryFor          time.Duration
	verbose           bool
}

func (t *target) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&t.file, "file", "f", "", "Cluster `document` (YAML)")
	f.StringArrayVar(&t.hosts, "host", nil, "`[user@]address[:port]` of a host to act on over SSH; may be repeated")
	f.StringVar(&t.sshKey, "ssh-key", "", "private key `file` for SSH, besides the agent and the user's ssh_config")
	f.StringVar(&t.bastion, "bastion", "", "`[user@]host[:port]` to reach the hosts through")
	f.StringArrayVar(&t.knownHosts, "known-hosts", nil, "known_hosts `file` (default that of the user's ssh_config); may be repeated")
	f.BoolVar(&t.acceptNewHostKeys, "accept-new-host-keys", false, "trust and remember the key of a host that known_hosts lacks; a changed key is still refused")
	f.StringVar(&t.sudoPasswordFile, "sudo-password-file", "", "`file` whose first line is the password for sudo (default MYADM_SUDO_PASSWORD, then a prompt)")
	f.DurationVar(&t.connectTimeout, "connect-timeout", 10*time.Second, "limit of one attempt to connect")
	f.DurationVar(&t.retryFor, "retry-for", 0, "how long to go on trying a host that does not answer yet, such as one that boots")
	f.BoolVarP(&t.verbose, "verbose", "v", false, "name every change")
}

// registerArtifacts adds the flags of commands that send binaries and images.
func (t *target) registerArtifacts(cmd *cobra.Command) {
	f := cmd.Flags()
	t.registerSource(f)
	f.StringVar(&t.version, "kubernetes-version", "", "Kubernetes `version`, or a label: stable, stable-1.37, latest-1.37 (default: the document's, then the bundle's)")
}

// load reads the document, if there is one, and puts the flags over it. role is what hosts named by --host, or this
// machine when there are none at all, do in the cluster. Defaults are set; validation is left to the caller.
func (t *target) load(role config.Role) (*config.Cluster, error) {
	cfg := &config.Cluster{APIVersion: config.APIVersion, Kind: config.Kind}
	if t.file != "" {
		var err error
		if cfg, err = config.Load(t.file); err != nil {
			return nil, err
		}
	}
	if len(t.hosts) > 0 {
		cfg.Spec.Hosts = nil
		for _, s := range t.hosts {
			h, err := parseHost(s)
			if err != nil {
				return nil, usageError{err}
			}
			h.Roles = []config.Role{role}
			cfg.GivenBy("--host", fmt.Sprintf("spec.hosts[%d]", len(cfg.Spec.Hosts)))
			cfg.Spec.Hosts = append(cfg.Spec.Hosts, h)
		}
	}
	if len(cfg.Spec.Hosts) == 0 {
		cfg.Spec.Hosts = []config.Host{{Roles: []config.Role{role}}} // without an address: this machine
	}
	for i := range cfg.Spec.Hosts {
		at := fmt.Sprintf("spec.hosts[%d].ssh.", i)
		ssh := &cfg.Spec.Hosts[i].SSH
		override(cfg, &ssh.KeyFile, t.sshKey, "--ssh-key", at+"keyFile")
		override(cfg, &ssh.Bastion, t.bastion, "--bastion", at+"bastion")
		override(cfg, &ssh.SudoPasswordFile, t.sudoPasswordFile, "--sudo-password-file", at+"sudoPasswordFile")
	}
	t.overrideSource(cfg)
	override(cfg, &cfg.Spec.KubernetesVersion, t.version, "--kubernetes-version", "spec.kubernetesVersion")
	return cfg, nil
}

// override puts a flag over a field of the document, and has errors name the flag instead of a line.
func override(cfg *config.Cluster, field *string, value, flag, path string) {
	if value != "" {
		*field = value
		cfg.GivenBy(flag, path)
	}
}

// parseHost reads [user@]address[:port]; an IPv6 address with a port stands in brackets.
func parseHost(s string) (config.Host, error) {
	var h config.Host
	address := s
	if i := strings.LastIndexByte(s, '@'); i >= 0 { // the last one, as for ssh: a user of a domain has one too
		h.SSH.User, address = s[:i], s[i+1:]
	}
	if name, port, err := net.SplitHostPort(address); err == nil {
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > 65535 {
			return h, fmt.Errorf("--host %s: %q is no port", s, port)
		}
		address, h.SSH.Port = name, n
	}
	h.Address = strings.Trim(address, "[]")
	if h.Address == "" || strings.ContainsAny(h.Address, " \t\n/[]") || strings.HasPrefix(h.Address, "-") {
		return h, fmt.Errorf("--host %s: it is not [user@]address[:port]", s)
	}
	return h, nil
}

// openBundle opens the bundle that flags or document name, and takes its version when nothing else says one, or a label
// does that may stand for it.
func openBundle(cfg *config.Cluster) (*bundle.Bundle, error) {
	if cfg.Spec.Artifacts.Bundle == "" {
		return nil, nil
	}
	b, err := bundle.Open(cfg.Spec.Artifacts.Bundle)
	if err != nil {
		return nil, err
	}
	have, wanted := b.Index.KubernetesVersion, cfg.Spec.KubernetesVersion
	if label, err := config.ParseLabel(wanted); err == nil && label.Covers(have) || wanted == "" {
		wanted = have
	}
	if wanted != have {
		err := fmt.Errorf("bundle %s is of Kubernetes %s, and %s is wanted; hint: name the bundle of that version, or leave kubernetesVersion out",
			cfg.Spec.Artifacts.Bundle, have, wanted)
		return nil, usageError{errors.Join(err, b.Close())}
	}
	cfg.Spec.KubernetesVersion = wanted
	return b, nil
}

// open connects to the document's hosts. An error may come with a cluster of the hosts that did answer.
func (t *target) open(ctx context.Context, cfg *config.Cluster, b *bundle.Bundle, streams Streams) (*cluster.Cluster, error) {
	log := streams.journal.logger()
	dialer := ssh.NewDialer(ssh.Options{
		KnownHostsFiles:   t.knownHosts,
		AcceptNewHostKeys: t.acceptNewHostKeys,
		ConnectTimeout:    t.connectTimeout,
		RetryFor:          t.retryFor,
		SudoPassword:      []byte(os.Getenv("MYADM_SUDO_PASSWORD")),
		Prompt:            prompter(streams),
		Logger:            log,
	})
	c, err := cluster.Open(ctx, cfg, cluster.Options{
		Bundle:  b,
		Now:     time.Now,
		Rand:    rand.Reader,
		Version: Version,
		Open: func(ctx context.Context, spec config.Host) (host.Host, error) {
			began := time.Now()
			h, err := connect(ctx, dialer, spec)
			if err != nil {
				streams.journal.span("connect", cmp.Or(spec.Name, spec.Address), began, err)
				return nil, err
			}
			streams.journal.span("connect", h.Name(), began, nil)
			return trace.New(h, log), nil
		},
	})
	for _, m := range c.Missing {
		streams.journal.ended(workflow.Outcome{Host: cmp.Or(m.Spec.Name, m.Spec.Address), State: workflow.Unreached, Error: m.Err.Error()})
	}
	return c, err
}

// connect opens a host: this machine, or one over SSH.
func connect(ctx context.Context, dialer *ssh.Dialer, spec config.Host) (host.Host, error) {
	if spec.Address == "" {
		return local.New()
	}
	return dialer.Dial(ctx, sshTarget(spec))
}

func sshTarget(spec config.Host) ssh.Target {
	return ssh.Target{
		Name: spec.Name, Address: spec.Address, User: spec.SSH.User, Port: spec.SSH.Port, KeyFile: spec.SSH.KeyFile,
		HostKey: spec.SSH.HostKey, Bastion: spec.SSH.Bastion, SudoPasswordFile: spec.SSH.SudoPasswordFile,
	}
}

// prompter asks for passphrases and passwords on the terminal; it is nil when there is none to ask on.
func prompter(streams Streams) func(ctx context.Context, question string) ([]byte, error) {
	in, ok := streams.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil
	}
	return func(ctx context.Context, question string) ([]byte, error) {
		fd := int(in.Fd())
		state, err := term.GetState(fd)
		if err != nil {
			return nil, err
		}
		type answer struct {
			text []byte
			err  error
		}
		answers := make(chan answer, 1)
		fmt.Fprint(streams.Err, question)
		go func() {
			text, err := term.ReadPassword(fd)
			answers <- answer{text, err}
		}()
		select {
		case a := <-answers:
			fmt.Fprintln(streams.Err)
			return a.text, a.err
		case <-ctx.Done(): // the reader is left behind; the terminal gets its echo back
			return nil, errors.Join(context.Cause(ctx), term.Restore(fd, state))
		}
	}
}
