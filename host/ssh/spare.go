package ssh

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// maxSpares is how many sessions are kept open for the next commands: phases that do not wait for each other ask a host
	// several things at the same time.
	maxSpares = 3

	// maxSessions is how many sessions are open at once, spare ones among them, of the ten that sshd allows: see maxCommands.
	maxSessions = 9

	// spareLife is for how long a spare session is taken for open. sshd can be told to close what is idle (ChannelTimeout).
	spareLife = 30 * time.Second
)

// spares are sessions that are opened before anybody needs them, since that takes a round trip: a command then takes one
// instead of two. Whoever needs a session is given a spare one first, so that they are in nobody's way on a host that allows
// but a few.
type spares struct {
	mu  sync.Mutex
	all []*spare
}

// spare is a session that is open, or about to be.
type spare struct {
	done    chan struct{} // closed when what follows is set
	session *ssh.Session
	err     error
	opened  time.Time
}

// take gives a spare session, or nil.
func (s *spares) take() *spare {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		return nil
	}
	next := s.all[0]
	s.all = s.all[1:]
	return next
}

// open gives the session once it is there, unless it may have been closed since.
func (s *spare) open() (*ssh.Session, error) {
	<-s.done
	if s.err == nil && time.Since(s.opened) > spareLife {
		s.session.Close()
		return nil, errStale
	}
	return s.session, s.err
}

var errStale = errors.New("the spare session is too old")

// prepare opens spare sessions, as many as there may be beside those in use, and waits for none of them. That a host refuses
// one is fine.
func (h *Host) prepare() {
	h.spares.mu.Lock()
	defer h.spares.mu.Unlock()
	inUse := 2 + len(h.commands) // the warden and SFTP
	for len(h.spares.all) < min(maxSpares, maxSessions-inUse) {
		s := &spare{done: make(chan struct{})}
		h.spares.all = append(h.spares.all, s)
		go func() {
			s.session, s.err = h.link.client.NewSession()
			s.opened = time.Now()
			close(s.done)
		}()
	}
}
