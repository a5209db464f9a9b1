package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// FieldError is one thing that is wrong with a Cluster document.
type FieldError struct {
	File    string // the document, or the flag that gave the field; empty for a Cluster made from flags
	Line    int    // 1-based; 0 where the document does not have the field nor anything around it
	Column  int    // 1-based, in characters
	Path    string // spec.hosts[1].ssh.port; empty for the document as a whole
	Message string
	Hint    string // what to do, where the message alone does not say it
}

// Error is "FILE:LINE:COLUMN: PATH: MESSAGE; hint: HINT", without the parts that are empty.
func (e FieldError) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", e.Line, max(e.Column, 1))
		}
		b.WriteString(": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Message)
	if e.Hint != "" {
		b.WriteString("; hint: " + e.Hint)
	}
	return b.String()
}

// Errors is everything that is wrong with a document, in the order of its lines.
type Errors []FieldError

// Error has one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, x := range e {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single errors to errors.As.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, x := range e {
		errs[i] = x
	}
	return errs
}

// err is e as an error, sorted by line; nil when there is none. What has no line keeps its order and comes first.
func (e Errors) err() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b FieldError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return e
}

// apartFrom returns those errors in other that are about other fields than e's: not the same, none around, none within.
// They would only follow from e's.
func (e Errors) apartFrom(other error) Errors {
	var found Errors
	if !errors.As(other, &found) {
		return nil
	}
	within := func(inner, outer string) bool {
		rest, ok := strings.CutPrefix(inner, outer)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	}
	return slices.DeleteFunc(found, func(x FieldError) bool {
		return slices.ContainsFunc(e, func(y FieldError) bool { return within(x.Path, y.Path) || within(y.Path, x.Path) })
	})
}
