package lock

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Record is who has a lock, as it is written down on hosts and in the Lease.
type Record struct {
	ID      string `json:"id"`      // of the run: no other one has it
	User    string `json:"user"`    // "ann@desk"
	PID     int    `json:"pid"`     // on that machine
	Command string `json:"command"` // "myadm apply"

	// Hosts are those that the run has locked, by Host.ID. It is said in the Lease alone.
	Hosts []string `json:"hosts,omitempty"`
}

// maxWord bounds what is shown of what somebody else has written.
const maxWord = 100

// parseRecord reads a record that anybody may have written.
func parseRecord(data string) (Record, error) {
	var r Record
	if err := json.Unmarshal([]byte(data), &r); err != nil {
		return Record{}, fmt.Errorf("record of a lock's holder: %w", err)
	}
	r.User, r.Command = printable(r.User), printable(r.Command)
	return r, nil
}

// printable keeps a terminal from obeying what is only to be shown.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if r := []rune(s); len(r) > maxWord {
		s = string(r[:maxWord]) + "..."
	}
	return s
}

// String is "ann@desk (pid 42, myadm apply)".
func (r Record) String() string {
	user := cmp.Or(r.User, "somebody")
	if r.PID == 0 && r.Command == "" {
		return user
	}
	return fmt.Sprintf("%s (pid %d, %s)", user, r.PID, cmp.Or(r.Command, "unknown command"))
}

func (r Record) json() string {
	data, err := json.Marshal(r)
	if err != nil {
		panic(err) // it holds strings and numbers
	}
	return string(data)
}

// HeldError says that somebody else has the lock.
type HeldError struct {
	By      Record
	What    string        // what is locked: "the cluster"
	Since   time.Time     // when they took it, by the clock of where it was read; zero: unknown
	Renewed time.Duration // how long ago they last said that they live, by the same clock; negative: unknown
	Expiry  time.Duration // how long it lives without that
}

func (e *HeldError) Error() string {
	text := fmt.Sprintf("%s is locked by %s", e.What, e.By)
	if !e.Since.IsZero() {
		text += " since " + e.Since.Local().Format(time.TimeOnly)
	}
	if e.Renewed >= 0 {
		text += fmt.Sprintf(", renewed %d s ago", int(e.Renewed.Seconds()))
	}
	return text + fmt.Sprintf("; hint: wait until it is done, which --lock-timeout 10m does; if it is dead, its lock ends at most %s after it, and --break-lock takes it at once", e.Expiry)
}

// LostError says that a lock which was held is not any more. The run that had it has stopped.
type LostError struct {
	By   Record // who took it; zero: nobody that is known of
	What string
	Err  error // why, if nobody took it
}

func (e *LostError) Error() string {
	if e.Taken() {
		return fmt.Sprintf("the lock of %s was taken by %s; this run has stopped half way; hint: when they are done, run the same command again to carry on", e.What, e.By)
	}
	return fmt.Sprintf("the lock of %s could not be renewed, and somebody else may take it, so this run has stopped: %v; hint: run the same command again to carry on", e.What, e.Err)
}

// Unwrap gives why it could not be renewed.
func (e *LostError) Unwrap() error { return e.Err }

// Taken tells whether somebody else has it.
func (e *LostError) Taken() bool { return e.Err == nil }
