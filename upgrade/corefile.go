package upgrade

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/coredns/corefile-migration/migration"
	"github.com/coredns/corefile-migration/migration/corefile"
)

// migrateCorefile rewrites a Corefile for a newer CoreDNS, where that would not take it as it is; changed is false where it
// would, and the text is then the user's to the letter. What is only deprecated stays. Plugins that the migration does not
// know stay as they are.
func migrateCorefile(from, to *semver.Version, text string) (migrated string, changed bool, err error) {
	begin, end := knownCoreDNS(from), knownCoreDNS(to)
	if begin == "" || begin == end {
		return text, false, nil // nobody knows what has changed since
	}
	var same, about string
	err = guarded(func() error {
		parsed, err := corefile.New(text)
		if err != nil {
			return err
		}
		same, about = parsed.ToString(), outdated(begin, end, text)
		migrated, err = migration.Migrate(begin, end, text, false)
		return err
	})
	if err != nil {
		return "", false, fmt.Errorf("the Corefile cannot be rewritten for CoreDNS %s: %w%s; hint: write it yourself as that version asks", to, err, about)
	}
	if migrated == same {
		return text, false, nil
	}
	if lost := missingWord(text, same); lost != "" {
		return "", false, fmt.Errorf("the Corefile would lose %q when it is rewritten for CoreDNS %s%s; hint: write it yourself as that version asks", lost, to, about)
	}
	return migrated, true, nil
}

// guarded calls the migration, which panics at a Corefile that lacks what it looks for.
func guarded(migrate func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("a brace or a name is not where it is looked for")
		}
	}()
	return migrate()
}

// knownCoreDNS is the newest version that the migration knows and that is no newer than v; empty if there is none. Between
// those that it knows nothing has changed.
func knownCoreDNS(v *semver.Version) string {
	if v == nil {
		return ""
	}
	core, newest := semver.New(v.Major(), v.Minor(), v.Patch(), "", ""), (*semver.Version)(nil)
	for _, text := range migration.ValidVersions() {
		if known, err := semver.NewVersion(text); err == nil && !known.GreaterThan(core) && (newest == nil || known.GreaterThan(newest)) {
			newest = known
		}
	}
	if newest == nil {
		return ""
	}
	return newest.String()
}

// outdated names the plugins of a Corefile that a newer CoreDNS does not take as they are.
func outdated(from, to, text string) string {
	notices, _ := migration.Deprecated(from, to, text) // what is wrong with the text is said already
	var names []string
	for _, n := range notices {
		if n.Severity == migration.SevRemoved || n.Severity == migration.SevIgnored {
			names = append(names, strings.TrimSpace(n.Plugin+" "+n.Option))
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return " (it is about " + strings.Join(slices.Compact(names), ", ") + ")"
}

// missingWord is the first word of a Corefile, comments aside, that stands in another text of it at another place or not
// at all; empty if both say the same.
func missingWord(text, other string) string {
	have := words(other)
	for i, word := range words(text) {
		if i >= len(have) || have[i] != word {
			return word
		}
	}
	return ""
}

// words of a Corefile, without its layout: comments, quotes and braces.
func words(text string) (all []string) {
	for line := range strings.Lines(text) {
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "#") {
				break
			}
			if word = strings.Trim(word, `"{}`); word != "" {
				all = append(all, word)
			}
		}
	}
	return all
}
