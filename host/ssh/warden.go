package ssh

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/myadm/myadm/host/ssh/quote"
)

// A command does not end when its session does: sshd only closes its pipes, and a user may not signal what sudo started.
// So a shell, the warden, runs as root for as long as the connection. It reads orders, a line each:
//
//   - PID     remember a command
//   - PID     forget it
//     TERM PID  end its process group
//     KILL PID  the same for one that does not listen
//
// It knows a command by its number and the time of its start, since numbers are used again. At the end of its input,
// which is the end of the connection, it ends all that it remembers. It is started by the first
// command of a connection, which also finds out how to become root and where sftp-server is.
//
// The scripts hold no backslash: within single quotes it means itself to POSIX shells, but not to fish.
const (
	greeting   = "myadm-warden"
	passMark   = "myadm-sudo-password" // sudo's prompt: seen once, it wants the password; twice, the first was wrong
	noSudoMark = "myadm-no-sudo"

	becomeScript = `LC_ALL=C; export LC_ALL
if [ "$(id -u)" = 0 ]; then exec /bin/sh -c "$1" sh root; fi
if ! command -v sudo >/dev/null; then echo ` + noSudoMark + ` >&2; exit 127; fi
exec sudo -k -S -p ` + passMark + ` -- /bin/sh -c "$1" sh sudo`

	wardenScript = `umask 022; cd /; LC_ALL=C; export LC_ALL; server=
for s in /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server /usr/libexec/sftp-server /usr/lib/sftp-server; do
  if [ -x "$s" ]; then server=$s; break; fi
done
if [ -z "$server" ]; then server=$(command -v sftp-server); fi
echo ` + greeting + ` "$1" "$server"
exec >/dev/null 2>&1
stat() { read -r line <"/proc/$1/stat" && set -- ${line##*) } && g=$3 && born=${20}; }
stat $$ && own=$g
end() {
  stat "${2%:*}" && [ "$born" = "${2#*:}" ] || return
  if [ "$g" = "$own" ]; then kill -s "$1" "${2%:*}"; else kill -s "$1" -- "-$g"; fi
}
all=" "
while read -r order pid; do
  if [ "$order" = + ]; then stat "$pid" && all="$all$pid:$born "; continue; fi
  case $all in *" $pid:"*) rest=${all#* $pid:}; one=$pid:${rest%% *} ;; *) continue ;; esac
  if [ "$order" = - ]; then all="${all%% $one *} ${all#* $one }"; else end "$order" "$one"; fi
done
left=
for one in $all; do end TERM "$one" && left=1; done
[ -z "$left" ] || sleep 2
for one in $all; do end KILL "$one"; done`
)

// warden is this end of it.
type warden struct {
	orders chan string
}

func (w *warden) tell(order string, pid int) {
	select {
	case w.orders <- fmt.Sprintf("%s %d\n", order, pid):
	default: // the connection takes nothing any more; it will end by its keep-alive, and the warden with it
	}
}

// becomeRoot starts the warden. password is called when sudo asks.
func (h *Host) becomeRoot(ctx context.Context, password func(context.Context) ([]byte, error)) error {
	s, err := h.session(ctx)
	if err != nil {
		return h.blame(ctx, err)
	}
	stdin, err := s.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := s.StdoutPipe()
	if err != nil {
		return err
	}
	said := &prompts{seen: make(chan struct{}, 2)}
	s.Stderr = said
	command := "exec " + quote.Argv("/bin/sh", "-c", becomeScript, "sh", wardenScript)
	if _, err := await(ctx, h, func() (struct{}, error) { return struct{}{}, s.Start(command) }); err != nil {
		return fmt.Errorf("%s: start a command: %w", h.name, err)
	}
	lines, ended := make(chan string, 1), make(chan struct{})
	go func() {
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if err == nil {
			lines <- line
		}
		s.Wait() //nolint:errcheck // how it ends is told by what it said
		close(ended)
	}()

	for asked := 0; ; {
		wait, cancel := context.WithTimeout(ctx, h.timeout)
		select {
		case <-said.seen:
			cancel()
			if asked++; asked > 1 {
				stdin.Close()
				return h.sudoError(SudoWrongPassword, said)
			}
			if h.password, err = password(ctx); err != nil {
				stdin.Close()
				if errors.Is(err, errNobody) {
					return h.sudoError(SudoNeedsPassword, said)
				}
				return fmt.Errorf("%s: password for sudo: %w", h.name, err)
			}
			h.password = append(bytes.Clone(h.password), '\n')
			if _, err := stdin.Write(h.password); err != nil {
				return h.blame(ctx, err)
			}
		case line := <-lines:
			cancel()
			return h.greeted(line, stdin, ended)
		case <-ended:
			cancel()
			return h.refused(ctx, said)
		case <-h.alive.Done():
			cancel()
			return h.lost()
		case <-wait.Done():
			cancel()
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return h.sudoError(SudoFailed, said)
		}
	}
}

// greeted takes the warden's greeting: how root was become, and where sftp-server is.
func (h *Host) greeted(line string, stdin io.Writer, ended <-chan struct{}) error {
	words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	if len(words) != 3 || words[0] != greeting {
		return fmt.Errorf("%s: a login of user %s prints %q before any command; hint: let its shell's start-up files print only on a terminal",
			h.name, h.user, strings.TrimSpace(line))
	}
	h.server = words[2]
	if words[1] == "sudo" {
		h.become = []string{"sudo", "-n", "--"}
		if h.password != nil {
			h.become = []string{"sudo", "-k", "-S", "-p", "", "--"}
		}
	}
	h.warden = &warden{orders: make(chan string, 256)}
	go func() {
		for {
			select {
			case order := <-h.warden.orders:
				if _, err := io.WriteString(stdin, order); err != nil {
					return
				}
			case <-ended:
				h.log.Warn("the warden has ended: commands that are given up go on")
				return
			case <-h.alive.Done():
				return
			}
		}
	}()
	return nil
}

// refusals tell from sudo's words, in the C locale, why it refuses.
var refusals = []struct {
	words  string
	reason SudoReason
}{
	{noSudoMark, SudoMissing},
	{"must have a tty", SudoNeedsTerminal},
	{"terminal is required", SudoNeedsTerminal},
	{"not in the sudoers", SudoNotAllowed},
	{"not allowed to", SudoNotAllowed},
	{"may not run sudo", SudoNotAllowed},
	{"incorrect password", SudoWrongPassword},
	{"incorrect authentication", SudoWrongPassword},
}

// refused is the error of a warden that has not come up.
func (h *Host) refused(ctx context.Context, said *prompts) error {
	text := said.text()
	for _, r := range refusals {
		if strings.Contains(text, r.words) {
			return h.sudoError(r.reason, said)
		}
	}
	if text == "" {
		return h.blame(ctx, h.sudoError(SudoFailed, said))
	}
	return h.sudoError(SudoFailed, said)
}

func (h *Host) sudoError(reason SudoReason, said *prompts) error {
	text := strings.TrimSpace(strings.ReplaceAll(said.text(), passMark, ""))
	if reason == SudoMissing || reason == SudoNeedsPassword {
		text = ""
	}
	return &SudoError{Host: h.name, User: h.user, Reason: reason, Said: text}
}

// prompts is sudo's error output. It tells when the password is asked for.
type prompts struct {
	mu    sync.Mutex
	all   []byte
	count int
	seen  chan struct{} // one for each time; no more than two are ever asked for
}

func (p *prompts) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.all) < 4<<10 {
		p.all = append(p.all, b...)
	}
	for n := bytes.Count(p.all, []byte(passMark)); p.count < n; p.count++ {
		select {
		case p.seen <- struct{}{}:
		default:
		}
	}
	return len(b), nil
}

func (p *prompts) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.all)
}
