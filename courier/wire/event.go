package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// MaxLine is the longest line of an event in bytes, its newline included.
const MaxLine = 256 << 10

// maxText and maxAttempts bound what a Failed can say, so that every event fits in a line.
const (
	maxText     = 1 << 10 // bytes
	maxAttempts = 16
)

// Event is one line of the program's output: a Progress, Fetched, Failed, Listening, Served, Probed, Done or Error.
type Event interface {
	kind() string
	check() error
}

// Progress tells how far a blob is. It comes a few times a second at most.
type Progress struct {
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"` // on the host's disk so far
	Size   int64  `json:"size"`  // of the whole blob, in bytes; 0 while it is not known
}

// Fetched is a blob that is in place, whole and verified, or whose files are, when it was to be unpacked.
type Fetched struct {
	SHA256   string `json:"sha256"`
	Path     string `json:"path"`
	Source   string `json:"source,omitempty"` // the URL that gave the last bytes; empty: nothing was asked, it was there
	Received int64  `json:"received"`         // bytes that came over the network, wasted ones included

	// Kept tells of a blob to unpack that it is at its path itself, as Unpack.Keep wants it. It is not where its files
	// were in place before: they are what counts.
	Kept bool `json:"kept,omitempty"`
}

// Failed is a blob that could not be had, or not be unpacked. What was at its path, or at those of its files, is still there.
type Failed struct {
	SHA256   string    `json:"sha256"`
	Path     string    `json:"path"`
	Cause    Cause     `json:"cause"` // of the last attempt
	Received int64     `json:"received"`
	Attempts []Attempt `json:"attempts"` // in their order, the first 16; for a fault of the host itself one without a URL
}

// Attempt is one source that did not give a blob, and why.
type Attempt struct {
	URL   string `json:"url,omitempty"` // without user and query
	Error string `json:"error"`
}

// Cause tells whether another way to the host can help.
type Cause string

// The causes.
const (
	CauseSource  Cause = "source"  // no source could be reached or gave the blob: an upload may help
	CauseContent Cause = "content" // a source gave other bytes: an upload may help
	CauseSpace   Cause = "space"   // the host's disk is full: nothing else will help
	CauseHost    Cause = "host"    // the host cannot write the file: nothing else will help
)

// Listening is a server that peers can ask from now on.
type Listening struct {
	Address string `json:"address"` // host:port, with the port that was taken
}

// Served tells how much a server has sent; it comes when that changes, and every half minute.
type Served struct {
	Bytes    int64 `json:"bytes"`    // of blobs, since the start
	Requests int64 `json:"requests"` // that were answered with a blob or a part of it
	Refused  int64 `json:"refused"`  // for a wrong token, path or method
}

// Probed is a target that was tried.
type Probed struct {
	Target  string `json:"target"` // Target.Name
	Reached bool   `json:"reached"`
	Status  int    `json:"status,omitempty"` // of HTTP, after redirects; any status means that it was reached
	Millis  int64  `json:"millis"`
	Error   string `json:"error,omitempty"`
}

// Done is the last event of a fetch or a probe that was carried out, and of a server that was ended.
type Done struct {
	Received int64 `json:"received"` // bytes of blobs that came over the network
	Failed   int   `json:"failed"`   // blobs or targets
}

// Error is the last event of a program that could not do its work at all, or that was ended.
type Error struct {
	Cause Cause  `json:"cause,omitempty"` // CauseSpace and CauseHost: nothing else will help
	Text  string `json:"text"`
}

func (Progress) kind() string  { return "progress" }
func (Fetched) kind() string   { return "fetched" }
func (Failed) kind() string    { return "failed" }
func (Listening) kind() string { return "listening" }
func (Served) kind() string    { return "served" }
func (Probed) kind() string    { return "probed" }
func (Done) kind() string      { return "done" }
func (Error) kind() string     { return "error" }

func (e Progress) check() error {
	return errors.Join(sum(e.SHA256), natural("bytes", e.Bytes), natural("size", e.Size))
}
func (e Fetched) check() error { return errors.Join(sum(e.SHA256), natural("received", e.Received)) }
func (e Failed) check() error  { return errors.Join(sum(e.SHA256), natural("received", e.Received)) }
func (e Served) check() error {
	return errors.Join(natural("bytes", e.Bytes), natural("requests", e.Requests), natural("refused", e.Refused))
}
func (e Probed) check() error {
	return errors.Join(natural("status", int64(e.Status)), natural("millis", e.Millis))
}
func (e Done) check() error {
	return errors.Join(natural("received", e.Received), natural("failed", int64(e.Failed)))
}
func (e Listening) check() error { return nil }
func (e Error) check() error     { return nil }

// Error is the text of the last attempt, after its URL.
func (e Failed) Error() string {
	var texts []string
	for _, a := range e.Attempts {
		text := a.Error
		if a.URL != "" {
			text = a.URL + ": " + text
		}
		texts = append(texts, text)
	}
	return fmt.Sprintf("%s: %s", e.Path, strings.Join(texts, "; "))
}

// Error is the event's text.
func (e Error) Error() string { return e.Text }

// Last tells whether no event follows this one.
func Last(e Event) bool {
	switch e.(type) {
	case Done, Error:
		return true
	}
	return false
}

// Line is an event as a line, {"TYPE":{...}}, with its newline.
func Line(e Event) ([]byte, error) {
	switch bounded := e.(type) {
	case Failed:
		bounded.Attempts = append([]Attempt(nil), bounded.Attempts[:min(len(bounded.Attempts), maxAttempts)]...)
		for i := range bounded.Attempts {
			a := &bounded.Attempts[i]
			a.URL, a.Error = Text(a.URL), Text(a.Error)
		}
		e = bounded
	case Error:
		bounded.Text = Text(bounded.Text)
		e = bounded
	case Probed:
		bounded.Target, bounded.Error = Text(bounded.Target), Text(bounded.Error)
		e = bounded
	}
	line, err := json.Marshal(map[string]Event{e.kind(): e})
	if err != nil {
		return nil, err
	}
	return append(line, '\n'), nil
}

// ErrUnknownType is an event of a type that this build does not know.
var ErrUnknownType = errors.New("unknown type of event")

// Parse is the opposite of Line. What it returns is bounded and fit for a terminal, whatever the line has.
func Parse(line []byte) (Event, error) {
	if len(line) > MaxLine {
		return nil, fmt.Errorf("line has more than %d bytes", MaxLine)
	}
	var tagged map[string]json.RawMessage
	if err := json.Unmarshal(line, &tagged); err != nil {
		return nil, err
	}
	if len(tagged) != 1 {
		return nil, fmt.Errorf("an event is an object with one field, its type; this has %d", len(tagged))
	}
	for kind, body := range tagged {
		switch kind {
		case "progress":
			return parse[Progress](body)
		case "fetched":
			e, err := parse[Fetched](body)
			if err != nil {
				return nil, err
			}
			e.Path, e.Source = Text(e.Path), Text(e.Source)
			return e, nil
		case "failed":
			return parseFailed(body)
		case "listening":
			e, err := parse[Listening](body)
			if err != nil {
				return nil, err
			}
			e.Address = Text(e.Address)
			return e, nil
		case "served":
			return parse[Served](body)
		case "probed":
			e, err := parse[Probed](body)
			if err != nil {
				return nil, err
			}
			e.Target, e.Error = Text(e.Target), Text(e.Error)
			return e, nil
		case "done":
			return parse[Done](body)
		case "error":
			e, err := parse[Error](body)
			if err != nil {
				return nil, err
			}
			e.Text, e.Cause = Text(e.Text), Cause(Text(string(e.Cause)))
			return e, nil
		default:
			return nil, fmt.Errorf("%w %.40q", ErrUnknownType, kind)
		}
	}
	return nil, errors.New("an event has a type")
}

func parseFailed(body []byte) (Event, error) {
	e, err := parse[Failed](body)
	if err != nil {
		return nil, err
	}
	e.Path, e.Cause = Text(e.Path), Cause(Text(string(e.Cause)))
	e.Attempts = append([]Attempt(nil), e.Attempts[:min(len(e.Attempts), maxAttempts)]...)
	for i := range e.Attempts {
		a := &e.Attempts[i]
		a.URL, a.Error = Text(a.URL), Text(a.Error)
	}
	return e, nil
}

func parse[E Event](body []byte) (E, error) {
	var e E
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return e, fmt.Errorf("%s: %w", e.kind(), err)
	}
	if err := e.check(); err != nil {
		return e, fmt.Errorf("%s: %w", e.kind(), err)
	}
	return e, nil
}

// Text is s as it may be shown: valid UTF-8 on one line, without control characters, at most 1 KiB.
func Text(s string) string {
	s = strings.ToValidUTF8(s, "�")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText-len("...")], "") + "..."
	}
	return s
}

func sum(s string) error {
	if !IsSHA256(s) {
		return fmt.Errorf("%.80q is not a SHA-256 in lower-case hex", s)
	}
	return nil
}

func natural(name string, n int64) error {
	if n < 0 {
		return fmt.Errorf("%s %d is negative", name, n)
	}
	return nil
}
