package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Pauses between attempts while a host boots: quick at first, since booting takes seconds.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 2 * time.Second
)

// link is an open connection, and what has to be let go after it.
type link struct {
	client *ssh.Client
	via    io.Closer // the use of a bastion, or nil
}

func (l *link) close() {
	l.client.Close()
	if l.via != nil {
		l.via.Close()
	}
}

// connect tries until the host answers, or RetryFor has passed. Only silence is worth another attempt: a key that is
// refused stays refused.
func (d *Dialer) connect(ctx context.Context, r *route) (*link, error) {
	deadline := time.Now().Add(d.opts.RetryFor)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		l, err := d.attempt(ctx, r)
		left := time.Until(deadline)
		if err == nil || !silent(err) || left <= 0 {
			return l, err
		}
		d.log.Debug("host does not answer yet", "host", r.name, "error", err)
		select {
		case <-time.After(min(pause, left)):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// silent tells whether the host may just not be up yet.
func silent(err error) bool {
	var unreachable *UnreachableError
	var dns *net.DNSError
	return errors.As(err, &unreachable) && !(errors.As(err, &dns) && dns.IsNotFound)
}

// attempt connects once.
func (d *Dialer) attempt(ctx context.Context, r *route) (*link, error) {
	keys, err := d.known.of(r)
	if err != nil {
		return nil, err
	}
	conn, via, err := d.transport(ctx, r)
	if err != nil {
		return nil, err
	}
	client, err := d.handshake(ctx, r, conn, keys)
	if err != nil {
		conn.Close()
		if via != nil {
			via.Close()
		}
		return nil, err
	}
	return &link{client, via}, nil
}

// transport makes the connection below SSH, directly or through bastions.
func (d *Dialer) transport(ctx context.Context, r *route) (net.Conn, io.Closer, error) {
	if len(r.jumps) == 0 {
		limited, cancel := limit(ctx, r)
		defer cancel()
		conn, err := (&net.Dialer{}).DialContext(limited, "tcp", r.address)
		if err != nil {
			return nil, nil, unreachable(limited, r, err)
		}
		return conn, nil, nil
	}
	via, err := d.relays.acquire(ctx, d, r) // has a time limit, and pauses for the user, of its own
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", r.name, err)
	}
	limited, cancel := limit(ctx, r)
	defer cancel()
	conn, err := via.client.DialContext(limited, "tcp", r.address)
	if err != nil {
		via.Close()
		return nil, nil, unreachable(limited, r, err)
	}
	return conn, via, nil
}

func limit(ctx context.Context, r *route) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, r.timeout, fmt.Errorf("no connection within %s", r.timeout))
}

func unreachable(ctx context.Context, r *route, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return &UnreachableError{Host: r.name, Address: r.address, Err: err}
}

// clock closes a connection when its handshake takes too long. It stands still while the user is asked something.
type clock struct {
	mu    sync.Mutex
	timer *time.Timer
	limit time.Duration
	rang  bool
}

func startClock(limit time.Duration, conn io.Closer) *clock {
	c := &clock{limit: limit}
	c.timer = time.AfterFunc(limit, func() {
		c.mu.Lock()
		c.rang = true
		c.mu.Unlock()
		conn.Close()
	})
	return c
}

func (c *clock) pause() (resume func()) {
	c.timer.Stop()
	return func() { c.timer.Reset(c.limit) }
}

func (c *clock) stop() (rang bool) {
	c.timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rang
}

// handshake proves the host's key and logs in.
func (d *Dialer) handshake(ctx context.Context, r *route, conn net.Conn, keys hostKeys) (*ssh.Client, error) {
	clock := startClock(r.timeout, conn)
	unwatch := context.AfterFunc(ctx, func() { conn.Close() })
	l := &login{ctx: ctx, r: r, answers: d.answers, pause: clock.pause}
	defer l.close()

	var keyErr error // the library's error does not always wrap it
	c, chans, requests, err := ssh.NewClientConn(conn, r.address, &ssh.ClientConfig{
		User:              r.user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeysCallback(l.signers)},
		HostKeyAlgorithms: keys.algorithms,
		HostKeyCallback: func(name string, remote net.Addr, key ssh.PublicKey) error {
			keyErr = keys.check(name, remote, key)
			return keyErr
		},
	})
	late := clock.stop()
	if !unwatch() { // ctx has ended and the connection is closed, or about to be
		return nil, fmt.Errorf("%s: %w", r.name, context.Cause(ctx))
	}
	var negotiation *ssh.AlgorithmNegotiationError
	switch {
	case err == nil && !late:
		return ssh.NewClient(c, chans, requests), nil
	case keyErr != nil:
		return nil, keyErr
	case errors.As(err, &negotiation):
		if keys.known != nil && strings.Contains(err.Error(), "host key") {
			return nil, keys.known()
		}
		return nil, fmt.Errorf("%s: %w; hint: the host's sshd is too old, or set up too narrowly", r.name, err)
	case err != nil && strings.Contains(err.Error(), "unable to authenticate"):
		return nil, &AuthError{Host: r.name, User: r.user, Tried: l.tried, Err: errors.New("none of the keys is accepted")}
	case late:
		err = fmt.Errorf("no login within %s", r.timeout)
	}
	return nil, &UnreachableError{Host: r.name, Address: r.address, Err: err}
}
