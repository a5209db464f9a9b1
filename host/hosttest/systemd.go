package hosttest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/myadm/myadm/host"
)

// Where units are looked for, the first one wins, and where `enable` puts its links.
var unitFolders = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

const wantsFolder = "/etc/systemd/system"

// Units is a small systemd: the state of units whose files are in the fake's file system.
//
// It knows `systemctl show|is-active|is-enabled` as queries and daemon-reload, start, stop, restart, try-restart,
// reload-or-restart, enable, disable, mask, unmask (with --now) and reset-failed as changes. As in systemd, a unit that
// was loaded keeps its old content until daemon-reload, and enable writes the links that [Install] asks for.
type Units struct {
	f      *Fake
	loaded map[string]string // unit: its content with drop-ins when it was loaded
	active map[string]string // unit: active or failed; inactive ones are not there
	ran    map[string]string // unit: the content it was last started with
	starts map[string]int
	refuse map[string]bool
}

// Systemd gives the fake a systemd.
func Systemd(f *Fake) *Units {
	u := &Units{
		f: f, loaded: map[string]string{}, active: map[string]string{}, ran: map[string]string{},
		starts: map[string]int{}, refuse: map[string]bool{},
	}
	for _, verb := range []string{"show", "is-active", "is-enabled"} {
		f.OnPrefix("systemctl", verb).Do(u.query)
	}
	for verb := range unitVerbs {
		f.OnPrefix("systemctl", verb).Changes().Do(u.change)
	}
	return u
}

// Start makes a unit active, as if it had been started before the test.
func (u *Units) Start(unit string) {
	u.f.mu.Lock()
	defer u.f.mu.Unlock()
	u.start(unitName(unit)) //nolint:errcheck // of a unit without a file the state is the test's own business
	u.active[unitName(unit)] = "active"
}

// Crash makes a unit failed.
func (u *Units) Crash(unit string) {
	u.f.mu.Lock()
	defer u.f.mu.Unlock()
	u.active[unitName(unit)] = "failed"
}

// Refuse makes every later start of a unit fail.
func (u *Units) Refuse(unit string) {
	u.f.mu.Lock()
	defer u.f.mu.Unlock()
	u.refuse[unitName(unit)] = true
}

// Active tells whether a unit runs.
func (u *Units) Active(unit string) bool {
	u.f.mu.Lock()
	defer u.f.mu.Unlock()
	return u.active[unitName(unit)] == "active"
}

// Enabled tells whether a unit starts at boot.
func (u *Units) Enabled(unit string) bool {
	u.f.mu.Lock()
	defer u.f.mu.Unlock()
	return u.fileState(unitName(unit)) == "enabled"
}

// Starts tells how often a unit was started or restarted.
func (u *Units) Starts(unit string) int {
	u.f.mu.Lock()
	defer u.f.mu.Unlock()
	return u.starts[unitName(unit)]
}

// RunsCurrent tells whether a unit runs with the content its files have now.
func (u *Units) RunsCurrent(unit string) bool {
	u.f.mu.Lock()
	defer u.f.mu.Unlock()
	unit = unitName(unit)
	content, ok := u.content(unit)
	return ok && u.active[unit] == "active" && u.ran[unit] == content
}

// unitVerbs are the verbs that change something. They get one unit each and run with the fake's lock held.
var unitVerbs = map[string]func(u *Units, unit string) error{
	"daemon-reload":     nil, // has no units
	"start":             (*Units).startOnce,
	"stop":              (*Units).stop,
	"restart":           (*Units).start,
	"reload-or-restart": (*Units).start,
	"try-restart": func(u *Units, unit string) error {
		if u.active[unit] != "active" {
			return nil
		}
		return u.start(unit)
	},
	"enable":  (*Units).enable,
	"disable": (*Units).disable,
	"mask": func(u *Units, unit string) error {
		return u.f.files.put(path.Join(wantsFolder, unit), &node{mode: fs.ModeSymlink | 0o777, target: "/dev/null"})
	},
	"unmask": func(u *Units, unit string) error {
		if p := path.Join(wantsFolder, unit); u.f.files.info(p, false).Target == "/dev/null" {
			delete(u.f.files, p)
		}
		return nil
	},
	"reset-failed": func(u *Units, unit string) error {
		if u.active[unit] == "failed" {
			delete(u.active, unit)
		}
		return nil
	},
}

// change is `systemctl VERB [--now] [UNIT...]`.
func (u *Units) change(f *Fake, cmd host.Cmd) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	verb, units, now := cmd.Argv[1], []string(nil), false
	for _, arg := range cmd.Argv[2:] {
		switch {
		case arg == "--now":
			now = true
		case strings.HasPrefix(arg, "-"):
			if !slices.Contains([]string{"--quiet", "--no-block", "-q"}, arg) {
				return nil, f.strict(fmt.Errorf("systemctl option that the model does not know: %q", cmd.Argv))
			}
		default:
			units = append(units, unitName(arg))
		}
	}
	if verb == "daemon-reload" {
		for unit := range u.loaded {
			u.loaded[unit], _ = u.content(unit)
		}
		return nil, nil
	}
	for _, unit := range units {
		err := unitVerbs[verb](u, unit)
		if err == nil && now {
			switch verb {
			case "enable":
				err = u.startOnce(unit)
			case "disable", "mask":
				err = u.stop(unit)
			}
		}
		if err != nil {
			return nil, exit(cmd, err)
		}
	}
	return nil, nil
}

// unitError is a failure of systemctl: its exit status and what it says.
type unitError struct {
	code int
	text string
}

func (e *unitError) Error() string { return e.text }

func exit(cmd host.Cmd, err error) error {
	var e *unitError
	if errors.As(err, &e) {
		return &host.ExitError{Argv: cmd.Argv, Code: e.code, Stderr: []byte(e.text + "\n")}
	}
	return err
}

func (u *Units) startOnce(unit string) error {
	if u.active[unit] == "active" {
		return nil
	}
	return u.start(unit)
}

func (u *Units) start(unit string) error {
	if u.fileState(unit) == "masked" {
		return &unitError{1, fmt.Sprintf("Failed to start %s: Unit %s is masked.", unit, unit)}
	}
	content, ok := u.load(unit)
	if !ok {
		return &unitError{5, fmt.Sprintf("Failed to start %s: Unit %s not found.", unit, unit)}
	}
	u.starts[unit]++
	if u.refuse[unit] {
		u.active[unit] = "failed"
		return &unitError{1, fmt.Sprintf("Job for %s failed because the control process exited with error code.", unit)}
	}
	u.active[unit], u.ran[unit] = "active", content
	return nil
}

func (u *Units) stop(unit string) error {
	if _, ok := u.load(unit); !ok && u.active[unit] == "" {
		return &unitError{5, fmt.Sprintf("Failed to stop %s: Unit %s not loaded.", unit, unit)}
	}
	delete(u.active, unit)
	return nil
}

func (u *Units) enable(unit string) error {
	if _, ok := u.load(unit); !ok {
		return &unitError{1, fmt.Sprintf("Failed to enable unit: Unit file %s does not exist.", unit)}
	}
	for _, link := range u.links(unit) {
		if err := u.f.files.put(link, &node{mode: fs.ModeSymlink | 0o777, target: u.file(unit)}); err != nil {
			return err
		}
	}
	return nil
}

func (u *Units) disable(unit string) error {
	for _, link := range u.links(unit) {
		delete(u.f.files, link)
	}
	return nil
}

// unitName adds the suffix that systemctl adds.
func unitName(name string) string {
	if path.Ext(name) == "" {
		return name + ".service"
	}
	return name
}
