package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
)

// kubeletFlagsVariable is set in kubeadm-flags.env and expanded by the kubelet's unit.
const kubeletFlagsVariable = "KUBELET_KUBEADM_ARGS"

// KubeletFlagsEnv is the file with the flags of a node's kubelet, as kubeadm writes it. It is quoted twice: systemd reads
// the value as it reads an environment file, then splits it into words where the unit says $KUBELET_KUBEADM_ARGS.
// A flag with a control character or invalid UTF-8 is an error, because systemd would drop the whole line.
func KubeletFlagsEnv(args []config.Arg) (host.File, error) {
	words := make([]string, 0, len(args))
	for _, a := range args {
		if !plainName(a.Name) {
			return host.File{}, fmt.Errorf("kubelet flag %q: not the name of a flag; hint: leave out dashes and blanks", a.Name)
		}
		if !utf8.ValidString(a.Value) || strings.ContainsFunc(a.Value, unicode.IsControl) {
			return host.File{}, fmt.Errorf("kubelet flag --%s: its value has a control character or is not UTF-8", a.Name)
		}
		words = append(words, quoteWord(flag(a)))
	}
	value := envEscaper.Replace(strings.Join(words, " "))
	return host.File{
		Path: config.KubeletFlagsEnv,
		Mode: fileMode,
		Data: []byte(kubeletFlagsVariable + `="` + value + "\"\n"),
	}, nil
}

// registrationFlag is a flag that a kubelet goes by only when it registers its Node. Labels and taints need no quotes.
var registrationFlag = regexp.MustCompile(`--(node-labels|register-with-taints)=([A-Za-z0-9._/:=,-]*)`)

// RegistrationFlags are those flags of a node's KubeletFlagsEnv that say what the Node is registered with. ok tells
// whether the file is one, and not what somebody has left of it.
func RegistrationFlags(env []byte) (args []config.Arg, ok bool) {
	if !bytes.Contains(env, []byte("--node-ip=")) {
		return nil, false
	}
	for _, m := range registrationFlag.FindAllSubmatch(env, -1) {
		args = append(args, config.Arg{Name: string(m[1]), Value: string(m[2])})
	}
	return args, true
}

// plainName reports whether name is that of a flag: a letter, then letters, digits, dashes, dots and underscores.
func plainName(name string) bool {
	for i, r := range name {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789-._", r)) {
			return false
		}
	}
	return name != ""
}

// envEscaper escapes what systemd unescapes between double quotes of an environment file.
var envEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`")

// quoteWord keeps a word whole when systemd splits a variable.
func quoteWord(word string) string {
	if !strings.ContainsAny(word, " \"'\\") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

// ParseKubeletFlagsEnv reads kubeadm-flags.env back, whoever wrote it, so that an upgrade keeps the flags. A flag without
// a value becomes true, which means the same to the kubelet.
func ParseKubeletFlagsEnv(data []byte) ([]config.Arg, error) {
	value, err := envValue(string(data), kubeletFlagsVariable)
	if err != nil {
		return nil, err
	}
	words, err := splitWords(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kubeletFlagsVariable, err)
	}
	var args []config.Arg
	for i := 0; i < len(words); i++ {
		name, value, hasValue := strings.Cut(words[i], "=")
		if long, ok := strings.CutPrefix(name, "--"); ok {
			name = long
		} else {
			name = strings.TrimPrefix(name, "-")
			if len(name) != 1 || name == words[i] { // -v is the kubelet's --v; anything else is no flag of its
				name = ""
			}
		}
		if !plainName(name) {
			return nil, fmt.Errorf("%s: %q is not a flag; hint: write --name=value", kubeletFlagsVariable, words[i])
		}
		switch next := i + 1; {
		case hasValue:
		case next < len(words) && !strings.HasPrefix(words[next], "-"):
			value, i = words[next], next
		default:
			value = "true"
		}
		args = append(args, config.Arg{Name: name, Value: value})
	}
	return args, nil
}

// envValue finds the variable in an environment file as systemd reads it: blanks around an assignment do not count,
// lines that start with # or ; are comments, and the last assignment wins.
func envValue(data, name string) (value string, err error) {
	found := false
	for line := range strings.Lines(strings.ReplaceAll(data, "\\\n", "")) {
		key, rest, _ := strings.Cut(strings.TrimSpace(line), "=")
		if strings.TrimSpace(key) != name {
			continue
		}
		if value, err = unquoteEnv(rest); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		found = true
	}
	if !found {
		return "", fmt.Errorf("no %s; hint: an empty set of flags is written %s=\"\"", name, name)
	}
	return value, nil
}

var errQuote = errors.New("a quote is not closed")

// unquoteEnv reads the value of an assignment in an environment file. Quoted parts may follow each other; an unquoted one
// goes on to the end of the line, and quotes inside it stay.
func unquoteEnv(s string) (string, error) {
	var out strings.Builder
	for {
		s = strings.TrimSpace(s)
		switch {
		case s == "":
			return out.String(), nil
		case s[0] == '\'':
			part, rest, closed := strings.Cut(s[1:], "'")
			if !closed {
				return "", errQuote
			}
			out.WriteString(part)
			s = rest
		case s[0] == '"':
			end := 1
			for ; end < len(s) && s[end] != '"'; end++ {
				if s[end] == '\\' && end+1 < len(s) && strings.IndexByte("\"\\$`", s[end+1]) >= 0 {
					end++
				}
				out.WriteByte(s[end])
			}
			if end >= len(s) {
				return "", errQuote
			}
			s = s[end+1:]
		default:
			for i := 0; i < len(s); i++ {
				if s[i] == '\\' && i+1 < len(s) {
					i++
				}
				out.WriteByte(s[i])
			}
			s = ""
		}
	}
}

// splitWords splits a variable as systemd does for $NAME in ExecStart: at blanks outside of quotes, which are then
// removed; a backslash takes the next character as it is, inside quotes as well.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			i++
			word.WriteByte(s[i])
			inWord = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, inWord = c, true
		case quote == 0 && strings.IndexByte(" \t\r\n", c) >= 0:
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, errQuote
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
