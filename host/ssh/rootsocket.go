package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/myadm/myadm/host/internal/command"
)

// connectedLine is the line by which a program tells that the socket is open; all that follows is the socket's.
const connectedLine = "connected\n"

// carryScript carries bytes between its own input and output and a unix socket, $3, in whichever of two languages the host
// has: of distributions' smallest systems, those with dpkg have Perl, and those with dnf mostly Python. $1 and $2 are the
// programs.
const carryScript = command.Surroundings + `
perl -MSocket -e 1 2>/dev/null && exec perl -e "$1" "$3"
for python in python3 /usr/libexec/platform-python; do
	"$python" -c '' 2>/dev/null && exec "$python" -c "$2" "$3"
done
echo "the host has neither perl nor python3 to open the socket as root; hint: install one of them, or log in as root" >&2
exit 1
`

// The programs carry one direction in a process of its own, or a peer that sends before it reads could block both. The
// process that sudo waits for is the one that ends when the socket does; the other one ends it by shutting the socket down.
const (
	carryPerl = `use Socket;
my ($path) = @ARGV;
socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die "$!\n";
connect($s, pack_sockaddr_un($path)) or die "$!\n";
sub carry {
	my ($from, $to) = @_;
	while (sysread($from, my $b, 65536)) {
		while (length $b) { my $n = syswrite($to, $b) or return; substr($b, 0, $n) = "" }
	}
}
syswrite(STDOUT, "connected\n");
my $pid = fork();
defined $pid or die "fork: $!\n";
if ($pid == 0) { close STDOUT; close STDERR; $SIG{PIPE} = "IGNORE"; carry(*STDIN, $s); shutdown($s, 2); exit }
carry($s, *STDOUT);
`
	carryPython = `import os, socket, sys
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
except OSError as e:
    sys.exit(e.strerror)
os.write(1, b"connected\n")
if os.fork() == 0:
    os.close(1)
    os.close(2)
    try:
        while True:
            b = os.read(0, 65536)
            if not b: break
            s.sendall(b)
        s.shutdown(socket.SHUT_RDWR)
    finally:
        os._exit(0)
while True:
    b = s.recv(65536)
    if not b: break
    while b: b = b[os.write(1, b):]
`
)

// rootSocket is a unix socket of the host, opened there by root.
type rootSocket struct {
	io.Reader
	io.WriteCloser
	session *ssh.Session
	leave   func() // gives back the turn that a running command has
}

// Close ends the program on the host, by the end of its input.
func (r *rootSocket) Close() error {
	r.leave()
	return r.session.Close()
}

// openAsRoot opens a unix socket as root, which sshd, that acts as the user who logged in, may not be able to.
func (h *Host) openAsRoot(ctx context.Context, path string) (*rootSocket, error) {
	select {
	case h.commands <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-h.alive.Done():
		return nil, h.lost()
	}
	leave := sync.OnceFunc(func() { <-h.commands })
	s, err := h.sessionInTurn(ctx)
	if err != nil {
		leave()
		return nil, err
	}
	said := &errorOutput{}
	s.Stderr = said
	r := &rootSocket{session: s, leave: leave}
	line := h.line(carryScript, carryPerl, carryPython, path)
	type refusal struct{ error } // the host's own answer, for which the connection is not to blame
	refused, err := await(ctx, h, func() (refusal, error) {
		refused, err := r.connect(line, h.password, said)
		return refusal{refused}, err
	})
	if err == nil {
		err = refused.error
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// connect starts the program and waits until the socket is open. refused is the program's word; err is SSH's.
func (r *rootSocket) connect(line string, password []byte, said *errorOutput) (refused, err error) {
	if r.WriteCloser, err = r.session.StdinPipe(); err != nil {
		return nil, err
	}
	if r.Reader, err = r.session.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := r.session.Start(line); err != nil {
		return nil, err
	}
	if _, err := r.Write(password); err != nil {
		return nil, err
	}
	answer := make([]byte, len(connectedLine))
	if _, err := io.ReadFull(r, answer); err != nil || string(answer) != connectedLine {
		r.WriteCloser.Close()
		ended := r.session.Wait() // then all of its error output has come
		if text := bytes.TrimSpace(said.tail()); len(text) > 0 {
			return errors.New(string(text)), nil
		}
		return nil, fmt.Errorf("what was to open it did not start: %w", errors.Join(err, ended))
	}
	return nil, nil
}
