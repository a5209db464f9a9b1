package courier

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/myadm/myadm/courier/wire"
)

// Decoder reads what the program prints. Nothing of that is trusted: lines are bounded, and events are as wire.Parse
// leaves them.
type Decoder struct {
	lines *bufio.Scanner
	line  int
	last  bool
	err   error
}

// NewDecoder reads from r, which need not be buffered.
func NewDecoder(r io.Reader) *Decoder {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4<<10), wire.MaxLine)
	return &Decoder{lines: lines}
}

// Next returns the next event: a value, such as wire.Progress. After the last one (wire.Done or wire.Error) it is io.EOF.
// Output that ends before gives an error that wraps io.ErrUnexpectedEOF. An error is final.
func (d *Decoder) Next() (wire.Event, error) {
	if d.err != nil {
		return nil, d.err
	}
	event, err := d.next()
	d.err = err
	return event, err
}

func (d *Decoder) next() (wire.Event, error) {
	if !d.lines.Scan() {
		switch err := d.lines.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			return nil, fmt.Errorf("courier: line %d has more than %d bytes; %s", d.line+1, wire.MaxLine, foreign)
		case err != nil:
			return nil, fmt.Errorf("courier: %w", err)
		case !d.last:
			return nil, fmt.Errorf("courier: it ended after %d lines, without a last word: %w; "+
				"hint: the connection was lost or something ended it; run again, and it goes on from there", d.line, io.ErrUnexpectedEOF)
		}
		return nil, io.EOF
	}
	d.line++
	line := bytes.TrimSpace(d.lines.Bytes())
	if d.last {
		return nil, fmt.Errorf("courier: line %d, %.80q, after the last event; %s", d.line, line, foreign)
	}
	event, err := wire.Parse(line)
	if errors.Is(err, wire.ErrUnknownType) {
		return nil, fmt.Errorf("courier: line %d: %w; "+
			"hint: the program on the host is not of this build of myadm; remove it and run again", d.line, err)
	}
	if err != nil {
		return nil, fmt.Errorf("courier: line %d, %.80q: %w; %s", d.line, line, err, foreign)
	}
	d.last = wire.Last(event)
	return event, nil
}

// foreign is what to do about output that cannot be the program's.
const foreign = "hint: something on the host prints to the output of commands, such as a shell's start-up file; silence it"
