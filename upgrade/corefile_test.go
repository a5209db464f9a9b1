package upgrade

import (
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
	"github.com/coredns/corefile-migration/migration"
	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
)

// oldCorefile is one that CoreDNS 1.3 took, with a plugin of the user's.
const oldCorefile = `.:53 {
    errors
    kubernetes cluster.local in-addr.arpa { # ours
        upstream
    }
    rewrite name "a" b.example # mine
    proxy . /etc/resolv.conf
    ready
}
`

func TestMigrateCorefile(t *testing.T) {
	const migratedCorefile = `.:53 {
    errors
    kubernetes cluster.local in-addr.arpa
    rewrite name a b.example
    forward . /etc/resolv.conf {
        max_concurrent 1000
    }
    ready
}
`
	now := ".:53 {\n  errors\n  kubernetes cluster.local\n  forward . 1.1.1.1\n  hosts { # mine\n    1.2.3.4 x\n  }\n  deep {\n    a {\n      b\n    }\n  }\n}\n"
	for _, tt := range []struct {
		name, from, to, text string
		want                 string // empty: as it is
		err                  []string
	}{
		{"what runs at this version, too", "1.14.2", "1.14.6", now, "", nil},
		{"between versions that nobody knows", "1.14.5", "1.99.0", now, "", nil},
		{"from a version before all", "1.0.0", "1.14.6", now, "", nil},
		{"from one that somebody built", "1.3.1-mine", "1.14.6", oldCorefile, migratedCorefile, nil},
		{"once more", "1.3.1", "1.14.6", migratedCorefile, "", nil},
		{"what the migration cannot do", "1.3.1", "1.14.6", "a.example b.example {\n  proxy . 1.1.1.1\n  proxy x 2.2.2.2\n}\n", "", []string{"1.14.6", "(it is about proxy)", "hint: "}},
		{"what it would lose", "1.6.7", "1.14.6", ".:53 {\n  kubernetes cluster.local {\n    upstream\n  }\n  deep {\n    a {\n      b\n    }\n  }\n  ready\n}\n", "", []string{`lose "b"`, "kubernetes upstream", "hint: "}},
		{"what ends the migration", "1.6.7", "1.14.6", ".:53 {\n  kubernetes {\n    upstream\n  }\n}\n", "", []string{"1.14.6", "(it is about kubernetes upstream)", "hint: "}},
		{"no Corefile", "1.6.7", "1.14.6", "{\n a\n", "", []string{"1.14.6", "hint: "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, changed, err := migrateCorefile(semver.MustParse(tt.from), semver.MustParse(tt.to), tt.text)
			if len(tt.err) > 0 {
				for _, want := range tt.err {
					if err == nil || !strings.Contains(err.Error(), want) || got != "" || changed {
						t.Errorf("got %q, %t, %v, want %q", got, changed, err, want)
					}
				}
				return
			}
			want := tt.want
			if want == "" {
				want = tt.text
			}
			if diff := cmp.Diff(want, got); diff != "" || changed != (tt.want != "") || err != nil {
				t.Errorf("changed %t, %v (-want +got):\n%s", changed, err, diff)
			}
		})
	}
}

// A CoreDNS that clusters get has to be one that the migration knows, or it would pass over what its release changed.
func TestMigrationKnowsEveryCoreDNS(t *testing.T) {
	for _, minor := range config.Supported() {
		v, err := config.VersionsOf(minor + ".0")
		if err != nil {
			t.Fatal(err)
		}
		if known := knownCoreDNS(semver.MustParse(v.CoreDNS[1:])); "v"+known != v.CoreDNS {
			t.Errorf("%s has CoreDNS %s, the migration knows it as %s, and last %v", minor, v.CoreDNS, known, migration.ValidVersions())
		}
	}
}

// Whatever a user has there, it does not end the program, and what need not change is left to the letter.
func FuzzMigrateCorefile(f *testing.F) {
	f.Add(oldCorefile)
	f.Add("(snippet) {\n  log\n}\n.:53 {\n  import snippet\n  cache 30 {\n    success 1\n  }\n}\n")
	f.Add("{ {\n}}")
	f.Add("import ../x\n\"a b\" {\n p \"c # d\" {$E}\n}")
	f.Fuzz(func(t *testing.T, text string) {
		for _, from := range []string{"1.3.1", "1.14.2"} {
			out, changed, err := migrateCorefile(semver.MustParse(from), semver.MustParse("1.14.6"), text)
			if err != nil && (out != "" || changed) || err == nil && !changed && out != text {
				t.Errorf("from %s: %q, %t, %v", from, out, changed, err)
			}
			if from == "1.14.2" && changed {
				t.Errorf("nothing has changed since %s, and it gives %q", from, out)
			}
		}
	})
}
