package lock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/myadm/myadm/host"
)

// Host is a host that is to be locked.
type Host struct {
	ID string // by which all operators know it: its machine-id
	host.Host
}

// What script does when somebody else has the lock.
const (
	modeRefuse = "refuse"
	modeWait   = "wait"
	modeBreak  = "break"
)

// grace is how long somebody who has the lock may take to give it up before it counts as held: when a myadm is killed, its
// host sees that by the end of the connection, and the next run may be as fast.
const grace = 2 * time.Second

// hostGuard is the lock of one host: a command there that runs for as long as it is fed.
type hostGuard struct {
	host Host
	opts *Options

	taken  chan struct{} // closed when the host is locked
	held   chan heldLine // somebody else has it, and is waited for
	ended  chan struct{} // closed when the command has ended; err is why
	err    error
	feed   chan struct{}
	stop   func() // closes quit: the command is told to end
	quit   chan struct{}
	cancel context.CancelFunc // ends the command by force

	mu      sync.Mutex
	rest    []byte      // of output, the beginning of a line
	sent    []time.Time // when the renewals were sent that are not answered yet
	renewed time.Time   // when the last one was sent that was answered
	locked  bool
	last    *heldLine // nil: nobody else had it
	broken  *Record
	expired bool
}

// heldLine is what script says of somebody else.
type heldLine struct {
	now, renewed, since int64 // seconds since 1970 by the host's clock
	by                  Record
}

// lockHost begins to take the lock of a host. ctx is not the limit of having it: stop, or cancel, ends that.
func lockHost(ctx context.Context, h Host, mode string, opts *Options) *hostGuard {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	g := &hostGuard{
		host: h, opts: opts, cancel: cancel, taken: make(chan struct{}), held: make(chan heldLine, 1), ended: make(chan struct{}),
		feed: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	g.stop = sync.OnceFunc(func() { close(g.quit) })
	patience := grace
	if mode != modeRefuse {
		patience = grace / 100
	}
	argv := []string{"/bin/sh", "-c", script, "sh", opts.path(), opts.Holder.json(), seconds(opts.expiry()), mode, seconds(patience)}
	go func() {
		defer cancel()
		_, err := h.Run(ctx, host.Cmd{Argv: argv, Stdin: g, Stdout: lines{g}})
		g.stop()
		g.err = g.why(err)
		close(g.ended)
	}()
	return g
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

// Read is the command's input: a line for each renewal.
func (g *hostGuard) Read(b []byte) (int, error) {
	select {
	case <-g.quit:
		return 0, io.EOF
	case <-g.feed:
		return copy(b, "\n"), nil
	}
}

// renew sends a renewal, unless the last one is still on its way into the connection.
func (g *hostGuard) renew() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case g.feed <- struct{}{}:
		g.sent = append(g.sent, time.Now())
	default:
	}
}

// lines takes the command's output.
type lines struct{ g *hostGuard }

func (l lines) Write(b []byte) (int, error) {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rest = append(g.rest, b...)
	for {
		line, rest, whole := bytes.Cut(g.rest, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		g.rest = rest
		g.hear(string(line))
	}
}

// hear takes a line of script's. g.mu is held.
func (g *hostGuard) hear(line string) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "taken":
		if !g.locked { // it may have been waited for, so this counts from now; the first renewal makes it exact
			g.locked, g.renewed = true, time.Now()
			close(g.taken)
		}
	case "renewed":
		if len(g.sent) > 0 {
			g.renewed, g.sent = g.sent[0], g.sent[1:]
		}
	case "held":
		held := parseHeld(rest)
		g.last = &held
		select {
		case g.held <- held:
		default:
		}
	case "broken":
		by, err := parseRecord(rest)
		if err != nil {
			by = Record{User: "somebody"}
		}
		g.broken = &by
	case "expired":
		g.expired = true
	}
}

// parseHeld reads what script says of a holder. What cannot be read is unknown.
func parseHeld(text string) heldLine {
	var h heldLine
	for _, at := range []*int64{&h.now, &h.renewed, &h.since} {
		var number string
		number, text, _ = strings.Cut(text, " ")
		if n, err := strconv.ParseInt(number, 10, 64); err == nil && n > 0 {
			*at = n
		}
	}
	by, err := parseRecord(text)
	if err == nil {
		h.by = by
	}
	return h
}

func (h heldLine) error(opts *Options) *HeldError {
	e := &HeldError{By: h.by, What: opts.what(), Renewed: -1, Expiry: opts.expiry()}
	if h.since > 0 {
		e.Since = time.Unix(h.since, 0)
	}
	if h.now > 0 && h.renewed > 0 {
		e.Renewed = max(0, time.Duration(h.now-h.renewed)*time.Second)
	}
	return e
}

// codeHeld is script's exit status when it refuses.
const codeHeld = 75

// why tells what the end of the command means.
func (g *hostGuard) why(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	code, _ := host.ExitCode(err)
	switch {
	case g.broken != nil:
		return &LostError{By: *g.broken, What: g.opts.what()}
	case code == codeHeld && g.last != nil:
		return g.last.error(g.opts)
	case g.expired:
		return fmt.Errorf("%s: no renewal arrived within %s", g.host.Name(), g.opts.expiry())
	case err != nil:
		return fmt.Errorf("lock of %s: %w", g.host.Name(), err)
	}
	return fmt.Errorf("%s: the lock was given up", g.host.Name())
}

// wait waits until the host is locked. When ctx ends before, the answer names whoever was waited for, if anybody.
func (g *hostGuard) wait(ctx context.Context) error {
	for {
		select {
		case <-g.taken:
			return nil
		case h := <-g.held:
			if g.opts.Waiting != nil && g.opts.Patience > 0 {
				g.opts.Waiting(h.error(g.opts))
			}
		case <-g.ended:
			return g.err
		case <-ctx.Done():
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.last != nil && errors.Is(context.Cause(ctx), errPatience) {
				return g.last.error(g.opts)
			}
			return context.Cause(ctx)
		}
	}
}

// alive tells whether the host is still locked, as far as is known, and since when that is not sure.
func (g *hostGuard) alive() (renewed time.Time, ok bool) {
	select {
	case <-g.ended:
		return time.Time{}, false
	default:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.renewed, true
}

// release gives the lock up, and waits for that until ctx ends.
func (g *hostGuard) release(ctx context.Context) {
	g.stop()
	select {
	case <-g.ended:
	case <-ctx.Done():
		g.cancel()
	}
}
