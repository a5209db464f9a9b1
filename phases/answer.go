package phases

import (
	"bytes"
	"iter"
	"strings"
)

// answer goes through the name=value lines that a script prints, and over all others.
func answer(out []byte) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for line := range bytes.Lines(out) {
			name, value, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
			if ok && !yield(name, value) {
				return
			}
		}
	}
}
