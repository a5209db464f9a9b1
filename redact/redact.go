// Package redact takes secrets out of text that people keep: logs, and pages made of them. Secrets do not belong there in
// the first place, and nothing of myadm's puts them there knowingly; but errors quote what programs on hosts have said.
//
// It is pure: text in, text out. It finds what secrets of a cluster look like wherever they are, and those that it was told.
package redact

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Mask stands where a secret was.
const Mask = "***"

// patterns are what secrets look like, and what is left of them.
var patterns = []struct {
	re *regexp.Regexp
	to string
}{
	// A PEM private key of any kind, also one that is cut off, or whose line ends are escaped.
	{regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`), Mask},
	// A bootstrap token, ID.SECRET (k8s.io/cluster-bootstrap/token/api, BootstrapTokenPattern). The ID is no secret.
	{regexp.MustCompile(`\b([a-z0-9]{6})\.[a-z0-9]{16}\b`), "$1." + Mask},
	// A JSON web token, such as a service account's.
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`), Mask},
	// An Authorization header: the scheme stays.
	{regexp.MustCompile(`(?i)(authorization["'\\]*\s*[:=]\s*\[?["'\\]*(?:(?:bearer|basic|digest|negotiate)\s+)?)[^\s"'\\,;\]}]+`), "${1}" + Mask},
	{regexp.MustCompile(`(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{8,}`), "${1}" + Mask},
	// A password in a URL. The user stays.
	{regexp.MustCompile(`(://[^/\s:@"']*:)[^/\s@"']+@`), "${1}" + Mask + "@"},
	// A certificate key (init --upload-certs), which by itself looks like any checksum, and passwords, by their names. The
	// value of data fields of a kubeconfig and of etcd's encryption of Secrets is base64.
	{regexp.MustCompile(`(?i)(certificate-?key["'\\]*\s*[:= ]\s*["'\\]*)[0-9a-f]{64}\b`), "${1}" + Mask},
	{regexp.MustCompile(`(?i)((?:password|passwd|passphrase|client-key-data|client_secret|identitytoken|registrytoken)["'\\]*\s*[:=]\s*["'\\]*)[^\s"'\\,;}]+`), "${1}" + Mask},
}

// Masker masks secrets. The zero value knows those that have a shape. Its methods may be called from several goroutines.
type Masker struct {
	mu       sync.RWMutex
	literals []string // longest first
}

// minLiteral is the length of the shortest text that is believed to be a secret: shorter ones are everywhere in text.
const minLiteral = 4

// Add has these texts be masked, too. Very short ones, and empty ones, are passed over.
func (m *Masker) Add(secrets ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range secrets {
		if len(s) >= minLiteral && !slices.Contains(m.literals, s) {
			m.literals = append(m.literals, s)
		}
	}
	slices.SortFunc(m.literals, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
}

// Text is the text with a Mask for each secret. Masking it again changes nothing.
func (m *Masker) Text(s string) string {
	m.mu.RLock()
	for _, secret := range m.literals {
		if !strings.Contains(Mask, secret) {
			s = strings.ReplaceAll(s, secret, Mask)
		}
	}
	m.mu.RUnlock()
	for _, p := range patterns {
		s = p.re.ReplaceAllString(s, p.to)
	}
	return s
}
