package ssh

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kevinburke/ssh_config"
)

// route is a Target with everything filled in: from itself, from the user's ssh_config, and from ssh's defaults.
type route struct {
	name, host, user string
	port             int
	address          string // host:port
	keyAddress       string // the host:port by which known_hosts names the host
	hostKey          string // pinned
	jumps            []string
	depth            int      // how many bastions led here
	keyFiles         []string // in the order in which they are tried
	keysOnly         bool     // do not offer what else the agent has
	agentSocket      string
	knownHosts       []string
	acceptNew        bool
	timeout          time.Duration
	sudoPasswordFile string
}

var defaultKeyFiles = []string{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"}

// userConfig is the user's ssh_config, read when it is first needed.
type userConfig struct {
	files    []string
	required bool
	load     func() ([]*ssh_config.Config, error)
}

func newUserConfig(file string) *userConfig {
	c := &userConfig{files: []string{"~/.ssh/config", "/etc/ssh/ssh_config"}}
	if file != "" {
		c.files, c.required = []string{file}, true
	}
	c.load = sync.OnceValues(c.read)
	return c
}

func (c *userConfig) read() ([]*ssh_config.Config, error) {
	var configs []*ssh_config.Config
	for _, file := range c.files {
		path, err := expandHome(file)
		if err != nil {
			return nil, err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && !c.required {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ssh_config: %w", err)
		}
		config, err := ssh_config.DecodeBytes(data)
		if err != nil {
			return nil, fmt.Errorf("ssh_config %s: %w; hint: name another file, or /dev/null", path, err)
		}
		configs = append(configs, config)
	}
	return configs, nil
}

// lookup gives what ssh_config says about a host as it was typed. As in ssh, the first value that is found counts.
type lookup struct {
	configs []*ssh_config.Config
	alias   string
}

func (l lookup) get(key string) string {
	for _, c := range l.configs {
		if value, err := c.Get(l.alias, key); err == nil && value != "" {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

func (l lookup) all(key string) []string {
	var values []string
	for _, c := range l.configs {
		found, err := c.GetAll(l.alias, key)
		if err != nil {
			continue
		}
		for _, value := range found {
			values = append(values, strings.Trim(value, `"`))
		}
	}
	return values
}

// first returns the first value that is not empty.
func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// resolve fills in a target. Its own fields win over ssh_config, and options that were given as well.
func (c *userConfig) resolve(t Target, opts Options) (*route, error) {
	name := first(t.Name, t.Address)
	fail := func(err error) (*route, error) { return nil, fmt.Errorf("%s: %w", name, err) }
	if t.Address == "" {
		return fail(errors.New("there is no address to connect to"))
	}
	configs, err := c.load()
	if err != nil {
		return fail(err)
	}
	l := lookup{configs, t.Address}
	r := &route{
		name: name, host: strings.ReplaceAll(first(l.get("HostName"), t.Address), "%h", t.Address),
		user: first(t.User, l.get("User")), port: t.Port, hostKey: t.HostKey, sudoPasswordFile: t.SudoPasswordFile,
		timeout: opts.ConnectTimeout, acceptNew: opts.AcceptNewHostKeys || l.get("StrictHostKeyChecking") == "accept-new",
	}
	if r.user == "" {
		me, err := user.Current()
		if err != nil {
			return fail(fmt.Errorf("user to log in as: %w", err))
		}
		r.user = me.Username
	}
	if r.port == 0 {
		if r.port, err = number(l.get("Port"), 22); err != nil {
			return fail(err)
		}
	}
	if r.timeout == 0 {
		seconds, err := number(l.get("ConnectTimeout"), int(defaultConnectTimeout/time.Second))
		if err != nil {
			return fail(err)
		}
		r.timeout = time.Duration(seconds) * time.Second
	}
	r.address = net.JoinHostPort(r.host, strconv.Itoa(r.port))
	r.keyAddress = r.address
	if alias := l.get("HostKeyAlias"); alias != "" {
		r.keyAddress = net.JoinHostPort(alias, "22")
	}
	if jumps := first(t.Bastion, l.get("ProxyJump")); jumps != "" && jumps != "none" {
		r.jumps = strings.Split(jumps, ",")
	}
	if err := r.files(t, l, opts); err != nil {
		return fail(err)
	}
	return r, nil
}

// files fills in what lies on this machine: keys, agent, known hosts.
func (r *route) files(t Target, l lookup, opts Options) (err error) {
	r.agentSocket = first(opts.AgentSocket, l.get("IdentityAgent"), os.Getenv("SSH_AUTH_SOCK"))
	if r.agentSocket == "SSH_AUTH_SOCK" {
		r.agentSocket = os.Getenv("SSH_AUTH_SOCK")
	}
	r.keyFiles = l.all("IdentityFile")
	r.keysOnly = l.get("IdentitiesOnly") == "yes"
	switch {
	case t.KeyFile != "":
		r.keyFiles, r.keysOnly = []string{t.KeyFile}, true
	case len(r.keyFiles) == 0:
		r.keyFiles = defaultKeyFiles
	}
	r.knownHosts = opts.KnownHostsFiles
	if len(r.knownHosts) == 0 {
		r.knownHosts = strings.Fields(first(l.get("UserKnownHostsFile"), "~/.ssh/known_hosts"))
		r.knownHosts = append(r.knownHosts, "/etc/ssh/ssh_known_hosts")
	}
	if r.agentSocket, err = r.expand(r.agentSocket, t.Address); err != nil {
		return err
	}
	if r.keyFiles, err = r.expandAll(r.keyFiles, t.Address); err != nil {
		return err
	}
	r.knownHosts, err = r.expandAll(r.knownHosts, t.Address)
	return err
}

func (r *route) expandAll(paths []string, alias string) ([]string, error) {
	expanded := make([]string, len(paths))
	for i, path := range paths {
		var err error
		if expanded[i], err = r.expand(path, alias); err != nil {
			return nil, err
		}
	}
	return expanded, nil
}

// expand replaces ~ and the tokens of ssh_config(5) that a path may hold.
func (r *route) expand(path, alias string) (string, error) {
	path, err := expandHome(path)
	if err != nil || !strings.Contains(path, "%") {
		return path, err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return strings.NewReplacer("%%", "%", "%d", home, "%h", r.host, "%n", alias, "%p", strconv.Itoa(r.port), "%r", r.user).Replace(path), nil
}

func expandHome(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return path, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, rest), nil
}

func number(s string, unset int) (int, error) {
	if s == "" {
		return unset, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 1<<16-1 {
		return 0, fmt.Errorf("ssh_config: %q is not a number in range", s)
	}
	return n, nil
}

// parseJump reads one hop of ProxyJump: [user@]host[:port] or ssh://[user@]host[:port].
func parseJump(hop string) (Target, error) {
	hop = strings.TrimSpace(hop)
	u, err := url.Parse("ssh://" + strings.TrimPrefix(hop, "ssh://"))
	if err != nil || u.Hostname() == "" || u.Path != "" {
		return Target{}, fmt.Errorf("bastion %q is not [user@]host[:port]", hop)
	}
	t := Target{Name: "bastion " + u.Hostname(), Address: u.Hostname(), User: u.User.Username()}
	if t.Port, err = number(u.Port(), 0); err != nil {
		return Target{}, fmt.Errorf("bastion %q: the port is out of range", hop)
	}
	return t, nil
}
