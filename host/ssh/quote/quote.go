// Package quote turns an argv into text that a POSIX shell turns back into the same argv.
//
// SSH carries one string, which sshd hands to the user's login shell. This is the only place where such text is made.
package quote

import "strings"

// safe are the bytes that mean only themselves to a shell, wherever they stand in a word. The tilde is not among them, and
// neither is the equals sign, which makes an assignment of a first word.
const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+:,./-"

// Word quotes one word. A word with a NUL byte cannot be carried and loses it: callers refuse such words before.
func Word(s string) string {
	if s != "" && strings.Trim(s, safe) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Argv quotes an argv.
func Argv(argv ...string) string {
	words := make([]string, len(argv))
	for i, arg := range argv {
		words[i] = Word(arg)
	}
	return strings.Join(words, " ")
}
