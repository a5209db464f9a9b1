package fetch

import (
	"fmt"
	"strings"

	"github.com/myadm/myadm/release"
)

// parseChecksum finds the SHA-256 of a file in what is published. A list may be signed in clear: lines that are not
// `HEX  NAME` are passed over, and `*` before a name, which stands for binary, means nothing here.
func parseChecksum(data []byte, c release.Checksum) (string, error) {
	text := string(data)
	if c.Form == release.FormBare {
		sum := strings.ToLower(strings.TrimSpace(text))
		if !sumPattern.MatchString(sum) {
			return "", fmt.Errorf("%s is not a SHA-256", excerpt(text))
		}
		return sum, nil
	}
	found := ""
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) != 2 || strings.TrimPrefix(strings.TrimPrefix(words[1], "*"), "./") != c.Name {
			continue
		}
		sum := strings.ToLower(words[0])
		switch {
		case !sumPattern.MatchString(sum):
			return "", fmt.Errorf("%s is not the SHA-256 of %s", excerpt(words[0]), c.Name)
		case found != "" && found != sum:
			return "", fmt.Errorf("there are two checksums of %s", c.Name)
		}
		found = sum
	}
	if found == "" {
		return "", fmt.Errorf("%s has no checksum of %s", excerpt(text), c.Name)
	}
	return found, nil
}

// excerpt is the beginning of what was sent instead of something sensible, a login page say.
func excerpt(text string) string {
	const most = 60
	if len(text) > most {
		text = text[:most] + "..."
	}
	return fmt.Sprintf("%q", text)
}
