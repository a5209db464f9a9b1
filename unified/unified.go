// Package unified shows how a text changes: in the unified format of diff -u, short enough to be read, and without the
// secrets that stand in it. It knows texts alone; which files nobody is to see at all, its callers know.
package unified

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"
)

// What is said of a change in place of a diff. Each is a whole line without its end.
const (
	Secret = "(secret: changed, not shown)"
	Binary = "(binary: changed, not shown)"
	Large  = "(large: changed, not shown)"
)

// Limits of what Diff shows. Beyond MaxSize a text is not even compared.
const (
	MaxSize    = 1 << 20 // bytes of either text
	maxLines   = 200     // of one diff
	maxColumns = 400     // bytes of one line
)

// nothing is what a text is called that is not there, as git and patch(1) have it.
const nothing = "/dev/null"

// Diff shows how the text of that name changes from was to is; nil stands for one that is not there. It is empty when
// nothing changes, and one of the constants when it cannot or must not be shown. What is too long of it is counted instead.
func Diff(name string, was, is []byte) string {
	from, to := name, name
	if was == nil {
		from = nothing
	}
	if is == nil {
		to = nothing
	}
	if len(was) > MaxSize || len(is) > MaxSize {
		if bytes.Equal(was, is) {
			return ""
		}
		return Large
	}
	return shorten(Whole(from, to, was, is))
}

// Whole is Diff without its limits of length. from and to name the two texts.
func Whole(from, to string, was, is []byte) string {
	switch {
	case bytes.Equal(was, is):
		return ""
	case isBinary(was) || isBinary(is):
		return Binary
	case holdsKey(was) || holdsKey(is):
		return Secret
	}
	before, after := hide(string(was), string(is))
	if before == after {
		return Secret
	}
	text := string(diff.Diff(from, []byte(before), to, []byte(after)))
	_, text, _ = strings.Cut(text, "\n") // a line that names the command, which was not run
	return text
}

func isBinary(data []byte) bool { return bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data) }

// shorten keeps the first lines, and of each its first part.
func shorten(text string) string {
	lines := slices.Collect(strings.Lines(text))
	var b strings.Builder
	for i, line := range lines {
		if i == maxLines {
			fmt.Fprintf(&b, "... %d more lines\n", len(lines)-maxLines)
			break
		}
		if len(line) > maxColumns {
			cut := maxColumns
			for !utf8.RuneStart(line[cut]) {
				cut--
			}
			line = fmt.Sprintf("%s... %d more bytes\n", line[:cut], len(strings.TrimSuffix(line, "\n"))-cut)
		}
		b.WriteString(line)
	}
	return b.String()
}
