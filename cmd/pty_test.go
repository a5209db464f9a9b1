package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/myadm/myadm/workflow"
)

// terminal is a pseudo terminal: what is written to tty is what its screen is told.
type terminal struct {
	tty    *os.File
	master *os.File
	mu     sync.Mutex
	told   bytes.Buffer
	came   chan struct{} // has a token when there is more
	done   chan struct{}
}

func newTerminal(t *testing.T, columns, rows uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0), unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}))
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{tty: tty, master: master, came: make(chan struct{}, 1), done: make(chan struct{})}
	go func() {
		defer close(term.done)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.told.Write(buf[:n])
			term.mu.Unlock()
			select {
			case term.came <- struct{}{}:
			default:
			}
			if err != nil { // EIO: the other end is closed
				return
			}
		}
	}()
	t.Cleanup(func() { tty.Close(); <-term.done; master.Close() })
	return term
}

func (t *terminal) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.told.String()
}

// await waits until the screen was told a text.
func (t *terminal) await(test *testing.T, text string) {
	test.Helper()
	timeout := time.After(10 * time.Second)
	for !strings.Contains(t.text(), text) {
		select {
		case <-t.came:
		case <-timeout:
			test.Fatalf("%q does not come; there is %q", text, t.text())
		}
	}
}

// screen is what is seen in the end, and scrolled out of sight, of text with the few control sequences that the view uses. A
// line that is longer than the terminal is wide takes several rows.
func screen(t *testing.T, told string, columns int) []string {
	t.Helper()
	rows := []string{""}
	at := 0
	for told != "" {
		switch {
		case strings.HasPrefix(told, "\r\n"):
			at++
			if at == len(rows) {
				rows = append(rows, "")
			}
			told = told[2:]
		case strings.HasPrefix(told, "\x1b["):
			end := strings.IndexAny(told, "AJ")
			if end < 0 {
				t.Fatalf("a control sequence that the view should not use: %q", told)
			}
			n := 1
			if told[end] == 'A' {
				if _, err := fmt.Sscanf(told[2:end], "%d", &n); err != nil {
					t.Fatalf("%q: %v", told[:end+1], err)
				}
				at -= n
			} else {
				rows = append(rows[:at], "")
			}
			if at < 0 {
				t.Fatal("the cursor leaves the screen")
			}
			told = told[end+1:]
		default:
			r := []rune(told)[0]
			if r < ' ' {
				t.Fatalf("control character %q", r)
			}
			if len([]rune(rows[at])) == columns {
				t.Fatalf("a line is longer than %d columns: %q", columns, rows[at])
			}
			rows[at] += string(r)
			told = told[len(string(r)):]
		}
	}
	return rows[:len(rows)-1]
}

func TestLiveViewOnATerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	for _, columns := range []int{24, 40, 80, 200} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			term := newTerminal(t, uint16(columns), 24)
			report, done := newReporter(Streams{Err: term.tty}, false)
			at := time.Now()
			tell := func(kind workflow.Kind, phase, host string, fill ...func(*workflow.Event)) {
				e := workflow.Event{Time: at, Kind: kind, Phase: phase, Host: host}
				for _, f := range fill {
					f(&e)
				}
				report(e)
			}
			hosts := func(n int) func(*workflow.Event) { return func(e *workflow.Event) { e.Hosts = n } }
			tell(workflow.PhaseStarted, "preflight", "", hosts(2))
			tell(workflow.PhaseStarted, "images", "", hosts(2))
			tell(workflow.Checking, "images", "worker-1")
			tell(workflow.Doing, "images", "worker-1", func(e *workflow.Event) { e.Message = "import " + strings.Repeat("x", 300) })
			term.await(t, "· images")
			tell(workflow.Unchanged, "preflight", "worker-1")
			tell(workflow.Unchanged, "preflight", "worker-2")
			tell(workflow.PhaseEnded, "preflight", "", func(e *workflow.Event) { e.Time = at.Add(time.Second) })
			term.await(t, "✓ preflight")
			tell(workflow.Failed, "images", "worker-1")
			tell(workflow.Applied, "images", "worker-2")
			tell(workflow.PhaseEnded, "images", "", func(e *workflow.Event) { e.Time = at.Add(2 * time.Second) })
			tell(workflow.PhaseStarted, "addons", "", hosts(0)) // and the run is stopped
			done()
			fmt.Fprint(term.tty, "error: x\n")
			term.await(t, "error: x")
			rows := screen(t, term.text(), columns)
			want := []string{
				"✓ preflight          2/2    1.0s  unchanged", "✗ images             1/2    2.0s  failed: worker-1", "- addons             0/1", "error: x",
			}
			if len(rows) != len(want) {
				t.Fatalf("the screen has %d rows: %q", len(rows), rows)
			}
			for i, w := range want {
				got := strings.TrimRight(rows[i], " ")
				if r := []rune(w); len(r) > columns {
					w = string(r[:columns-1]) + "…"
				}
				if i == 2 { // how long it had run is not known
					w = "- addons             0/"
					got = got[:min(len(got), len(w))]
				}
				if got != w {
					t.Errorf("row %d is %q, want %q", i, got, w)
				}
			}
			for _, sequence := range []string{"\x1b[?25l", "\x1b[?1049h"} {
				if strings.Contains(term.text(), sequence) {
					t.Errorf("the terminal's mode is changed by %q", sequence)
				}
			}
		})
	}
}

// What is no terminal, or too small a one, gets lines.
func TestSmallTerminalsGetLines(t *testing.T) {
	t.Setenv("TERM", "xterm")
	for _, tt := range []struct {
		columns, rows uint16
		want          bool
	}{{80, 24, true}, {24, 12, true}, {23, 24, false}, {80, 11, false}, {0, 0, false}} {
		if got := fits(newTerminal(t, tt.columns, tt.rows).tty); got != tt.want {
			t.Errorf("%d columns, %d rows: %t", tt.columns, tt.rows, got)
		}
	}
	t.Setenv("TERM", "dumb")
	if fits(newTerminal(t, 80, 24).tty) {
		t.Error("a dumb terminal gets the live view")
	}
}
