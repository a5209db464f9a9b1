package hosttest

import (
	"fmt"
	"path"
	"strings"

	"github.com/myadm/myadm/host"
)

// unitProperties are those that `systemctl show` knows here, in the order in which systemd prints them.
var unitProperties = []string{
	"Id", "LoadState", "ActiveState", "SubState", "FragmentPath", "UnitFileState", "NeedDaemonReload",
}

// query is `systemctl show -p P,... UNIT...`, `is-active UNIT` and `is-enabled UNIT`.
func (u *Units) query(f *Fake, cmd host.Cmd) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	want, units := map[string]bool{}, []string(nil)
	for args := cmd.Argv[2:]; len(args) > 0; args = args[1:] {
		list, isList := strings.CutPrefix(args[0], "--property=")
		switch {
		case args[0] == "-p" && len(args) > 1:
			args = args[1:]
			list, isList = args[0], true
		case isList, args[0] == "--quiet", args[0] == "--no-pager":
		case strings.HasPrefix(args[0], "-"):
			return nil, f.strict(fmt.Errorf("systemctl option that the model does not know: %q", cmd.Argv))
		default:
			units = append(units, unitName(args[0]))
		}
		if isList {
			for _, p := range strings.Split(list, ",") {
				want[p] = true
			}
		}
	}
	if cmd.Argv[1] == "show" {
		return u.show(cmd, want, units)
	}
	return u.is(cmd, units)
}

// show prints a block of KEY=VALUE lines for each unit, with an empty line between blocks.
func (u *Units) show(cmd host.Cmd, want map[string]bool, units []string) ([]byte, error) {
	var blocks []string
	for _, unit := range units {
		state := u.properties(unit)
		var block strings.Builder
		for _, p := range unitProperties {
			if want[p] {
				fmt.Fprintf(&block, "%s=%s\n", p, state[p])
			}
		}
		blocks = append(blocks, block.String())
	}
	for p := range want {
		if _, ok := u.properties("x.service")[p]; !ok {
			return nil, u.f.strict(fmt.Errorf("systemctl property that the model does not know: %q", cmd.Argv))
		}
	}
	return []byte(strings.Join(blocks, "\n")), nil
}

// is answers is-active and is-enabled with a line for each unit; the status is 0 when all of them are.
func (u *Units) is(cmd host.Cmd, units []string) ([]byte, error) {
	property, yes, code := "ActiveState", "active", 3
	if cmd.Argv[1] == "is-enabled" {
		property, yes, code = "UnitFileState", "enabled", 1
	}
	var out strings.Builder
	all := true
	for _, unit := range units {
		state := u.properties(unit)[property]
		if state == "" {
			state = "not-found"
		}
		all = all && (state == yes || state == "static")
		fmt.Fprintln(&out, state)
	}
	if !all {
		return []byte(out.String()), &host.ExitError{Argv: cmd.Argv, Code: code}
	}
	return []byte(out.String()), nil
}

func (u *Units) properties(unit string) map[string]string {
	loaded, ok := u.load(unit)
	now, _ := u.content(unit)
	state := map[string]string{
		"Id": unit, "LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead",
		"FragmentPath": u.file(unit), "UnitFileState": u.fileState(unit), "NeedDaemonReload": "no",
	}
	if ok {
		state["LoadState"] = "loaded"
	}
	if u.fileState(unit) == "masked" {
		state["LoadState"] = "masked"
	}
	if loaded != now {
		state["NeedDaemonReload"] = "yes"
	}
	switch u.active[unit] {
	case "active":
		state["ActiveState"], state["SubState"] = "active", "running"
	case "failed":
		state["ActiveState"], state["SubState"] = "failed", "failed"
	}
	return state
}

// load gives the content that systemd has of a unit, reading it when it has none.
func (u *Units) load(unit string) (string, bool) {
	if u.loaded[unit] == "" {
		content, ok := u.content(unit)
		if !ok {
			return "", false
		}
		u.loaded[unit] = content
	}
	return u.loaded[unit], true
}

// content is a unit's file and its drop-ins as they are now.
func (u *Units) content(unit string) (string, bool) {
	file := u.file(unit)
	if file == "" {
		return "", false
	}
	data, err := u.f.files.read(file)
	if err != nil {
		return "", false
	}
	var b strings.Builder
	b.Write(data)
	for _, folder := range unitFolders {
		for _, p := range u.f.files.below(path.Join(folder, unit+".d")) {
			if path.Ext(p) == ".conf" {
				data, _ := u.f.files.read(p)
				fmt.Fprintf(&b, "\n# %s\n%s", p, data)
			}
		}
	}
	return b.String(), true
}

// file is the path of a unit's file, and empty when there is none.
func (u *Units) file(unit string) string {
	for _, folder := range unitFolders {
		if p := path.Join(folder, unit); u.f.files.info(p, false).Exists {
			return p
		}
	}
	return ""
}

// links are the links that a unit's [Install] section asks for.
func (u *Units) links(unit string) []string {
	content, _ := u.content(unit)
	var links []string
	for line := range strings.Lines(content) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		kind := map[string]string{"WantedBy": ".wants", "RequiredBy": ".requires"}[strings.TrimSpace(key)]
		if kind == "" {
			continue
		}
		for _, target := range strings.Fields(value) {
			links = append(links, path.Join(wantsFolder, target+kind, unit))
		}
	}
	return links
}

// fileState is systemd's UnitFileState.
func (u *Units) fileState(unit string) string {
	file := u.file(unit)
	if file == "" {
		return ""
	}
	if u.f.files.info(file, false).Target == "/dev/null" {
		return "masked"
	}
	links := u.links(unit)
	if len(links) == 0 {
		return "static"
	}
	for _, link := range links {
		if !u.f.files.info(link, false).Exists {
			return "disabled"
		}
	}
	return "enabled"
}
