package config

import (
	"slices"
	"strings"
)

// didYouMean is a hint with the candidate that is nearest to name, or "" when none is near enough to be what was meant:
// at most a third of the letters may differ. Letter case does not count, since podSubNet is the commonest mistake.
func didYouMean(name string, candidates []string) string {
	best, least := "", max(len(name)/3, 1)+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(name), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean " + best + "?"
}

// distance counts the insertions, deletions and substitutions of bytes that turn a into b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// oneOf joins the allowed values for a message: "a, b or c".
func oneOf[T ~string](values []T) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = string(v)
	}
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// among reports whether value is one of those allowed, and otherwise gives the hint for it.
func among[T ~string](value T, allowed []T) (hint string, ok bool) {
	if slices.Contains(allowed, value) {
		return "", true
	}
	words := make([]string, len(allowed))
	for i, v := range allowed {
		words[i] = string(v)
	}
	if hint = didYouMean(string(value), words); hint == "" {
		hint = "use " + oneOf(allowed)
	}
	return hint, false
}
