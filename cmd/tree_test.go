package cmd

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commands are all commands of ours; cobra's own come only when a command is run.
func commands(t *testing.T) []*cobra.Command {
	t.Helper()
	var all []*cobra.Command
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		all = append(all, c)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(NewCommand(Streams{In: strings.NewReader(""), Out: new(bytes.Buffer), Err: new(bytes.Buffer)}))
	return all
}

func TestEveryCommandExplainsItself(t *testing.T) {
	all := commands(t)
	if len(all) < 15 {
		t.Fatalf("only %d commands were found", len(all))
	}
	for _, c := range all {
		path := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q", path, c.Short)
		}
		if !c.HasSubCommands() && c.Example == "" {
			t.Errorf("%s has no example", path)
		}
		if !c.Runnable() || c.Args == nil {
			t.Errorf("%s takes whatever it is given", path)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: flag --%s has no help", path, f.Name)
			}
		})
	}
}

// TestExamplesAreRight parses every command line of the examples: its command is there, with these flags and arguments.
func TestExamplesAreRight(t *testing.T) {
	lines := 0
	for _, c := range commands(t) {
		for _, words := range examples(c.Example) {
			lines++
			root := NewCommand(Streams{})
			found, rest, err := root.Find(words[1:])
			if err != nil {
				t.Errorf("%s: %q: %v", c.CommandPath(), words, err)
				continue
			}
			if c.HasParent() && c.Parent().HasParent() && found.CommandPath() != c.CommandPath() && !c.HasSubCommands() {
				t.Errorf("%s has an example of %s", c.CommandPath(), found.CommandPath())
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: %q: %v", c.CommandPath(), words, err)
				continue
			}
			if found.HasSubCommands() && len(found.Flags().Args()) > 0 {
				t.Errorf("%s: %q: there is no such subcommand", c.CommandPath(), words)
			} else if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%s: %q: %v", c.CommandPath(), words, err)
			}
		}
	}
	if lines < 20 {
		t.Errorf("only %d command lines were found", lines)
	}
}

// examples are the command lines of myadm in an example, split at blanks: comments, variables before the command and what
// follows a redirection are left out, and lines that end in a backslash go on.
func examples(text string) [][]string {
	var all [][]string
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " > ")
		words := strings.Fields(line)
		for len(words) > 0 && strings.Contains(words[0], "=") {
			words = words[1:]
		}
		if len(words) > 0 && words[0] == "myadm" {
			all = append(all, words)
		}
	}
	return all
}

func TestPhasesOfInitHaveCommands(t *testing.T) {
	all := map[string]bool{}
	for _, c := range commands(t) {
		all[c.CommandPath()] = true
	}
	list := initPhases()
	if len(list) < 10 {
		t.Fatalf("init has only %d phases", len(list))
	}
	seen := map[string]bool{}
	for _, p := range list {
		if !all["myadm init phase "+p.Name] {
			t.Errorf("there is no command for phase %s", p.Name)
		}
		if seen[p.Name] {
			t.Errorf("two phases are called %s", p.Name)
		}
		seen[p.Name] = true
	}
}
