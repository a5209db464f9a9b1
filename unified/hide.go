package unified

import (
	"bytes"
	"regexp"
	"strings"
)

// holdsKey tells whether a text holds a private key, plain or in base64 as kubeconfigs do: then nothing of it is shown.
func holdsKey(data []byte) bool {
	return bytes.Contains(data, []byte("PRIVATE KEY-----")) || keyData.Match(data)
}

var keyData = regexp.MustCompile(`client-key-data"?:[ \t]*\S`)

// secretParts are the parts of a line that are hidden: the first group of each. What is known to be secret as a whole does
// not come here; these are for passwords in the middle of what is public.
var secretParts = []*regexp.Regexp{
	regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://([^/\s"']+)@`),                                                        // who logs in at a URL, such as a proxy's
	regexp.MustCompile(`\bAuthorization"?\s*[:=]\s*(\S.*)$`),                                                            // of HTTP, as in hosts.toml
	regexp.MustCompile(`(?:^|["'{,])\s*(?:- )?"?(?:token|password|passphrase|secret|client-?_?[sS]ecret)"?:\s+(\S.*)$`), // of kubeconfigs, and of others like them
	regexp.MustCompile(`--[a-z0-9-]*(?:password|passwd|secret|token|api-key)[= ]\s*"?([^\s",]+)`),                       // of flags; --token-auth-file names a file
	regexp.MustCompile(`\b` + secretVariable + `\s*=\s*(\S.*)$`),                                                        // of environment files and units
	regexp.MustCompile(`"?name"?:\s*["']?` + secretVariable + `["']?,\s*"?value"?:\s*([^}]*)`),                          // of pods, on one line
}

// secretVariable is a variable of the environment whose name says that it is a secret.
const secretVariable = `[A-Z0-9_]*(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY)[A-Z0-9_]*`

// A variable as pods and kubeadm's extraEnvs have it: its name and its value on two lines, in any order.
var (
	envName = regexp.MustCompile(`^\s*(?:- )?"?name"?:\s*["']?` + secretVariable + `["']?,?\s*$`)
	envPart = regexp.MustCompile(`^\s*(?:- )?"?value"?:\s*(\S.*)$`)
)

// What stands for what is hidden. The second is for one that differs from all of the old text, since that it changes is
// to be seen.
const (
	hidden  = "***"
	changed = "*** (changed)"
)

// told is what the makers of a text have put in place of a secret themselves, such as package kube for those of a Secret.
var told = regexp.MustCompile(`^['"]?\(secret: [a-z, ]*\)['"]?$`)

// hide hides the secrets in the two states of a text.
func hide(was, is string) (string, string) {
	old := map[string]bool{}
	before := hideIn(was, func(secret string) string {
		old[secret] = true
		return hidden
	})
	after := hideIn(is, func(secret string) string {
		if was == "" || old[secret] {
			return hidden
		}
		return changed
	})
	return before, after
}

func hideIn(text string, mark func(secret string) string) string {
	lines, ends := split(text)
	hideVariables(lines, mark)
	var b strings.Builder
	for i, line := range lines {
		for _, part := range secretParts {
			line = hidePart(line, part, mark)
		}
		b.WriteString(line + ends[i])
	}
	return b.String()
}

// lineEnd ends a line, also within a text that YAML or JSON have written on one line, in quotes.
var lineEnd = regexp.MustCompile(`\r?\n|\\n`)

// split takes a text apart into lines and what ends each.
func split(text string) (lines, ends []string) {
	from := 0
	for _, at := range lineEnd.FindAllStringIndex(text, -1) {
		lines, ends = append(lines, text[from:at[0]]), append(ends, text[at[0]:at[1]])
		from = at[1]
	}
	return append(lines, text[from:]), append(ends, "")
}

// hidePart hides the first group of every match in a line.
func hidePart(line string, part *regexp.Regexp, mark func(secret string) string) string {
	var b strings.Builder
	from := 0
	for _, at := range part.FindAllStringSubmatchIndex(line, -1) {
		b.WriteString(line[from:at[2]])
		if secret := line[at[2]:at[3]]; secret == hidden || secret == changed || told.MatchString(secret) {
			b.WriteString(secret) // hidden already
		} else {
			b.WriteString(mark(secret))
		}
		from = at[3]
	}
	return b.String() + line[from:]
}

// hideVariables hides the values of secret variables that stand on the line after or before their name, and what such a
// value has on further lines.
func hideVariables(lines []string, mark func(secret string) string) {
	for i, line := range lines {
		if !envName.MatchString(line) {
			continue
		}
		for _, at := range []int{i + 1, i - 1} {
			if at < 0 || at >= len(lines) || !envPart.MatchString(lines[at]) {
				continue
			}
			if strings.HasPrefix(strings.TrimSpace(lines[max(at, i)]), "- ") {
				continue // the later line begins another variable
			}
			lines[at] = hidePart(lines[at], envPart, mark)
			if at > i {
				hideDeeper(lines[at+1:], indent(lines[at]), mark)
			}
		}
	}
}

// hideDeeper hides the lines that are more to the right than depth, up to the first that is not: a text of many lines.
func hideDeeper(lines []string, depth int, mark func(secret string) string) {
	for i, line := range lines {
		text := strings.TrimSpace(line)
		if text != "" && indent(line) <= depth {
			return
		}
		if text != "" {
			lines[i] = strings.Replace(line, text, mark(text), 1)
		}
	}
}

func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
