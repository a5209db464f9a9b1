package phases

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// unit is a systemd service that must be enabled and run with the files as they are now.
type unit struct {
	name  string
	files []string // what it reads when it starts, its unit files too: when one is newer than the process, it restarts
}

func (u unit) object() string { return "unit " + u.name }

// UnitScript is what phases ask a host about a unit. It prints what systemd knows of the unit $1, then the times in which the
// other arguments were last written.
const UnitScript = `
unit=$1; shift
LC_ALL=C TZ=UTC systemctl show -p LoadState,ActiveState,UnitFileState,NeedDaemonReload,ExecMainStartTimestamp "$unit"
stat -c written=%Y "$@" 2>/dev/null
true
`

// readUnit asks systemd for the state of a unit, in one round trip, and the host when the files were last written.
func readUnit(ctx context.Context, r host.Reader, name string, files ...string) (unitState, error) {
	argv := append([]string{"sh", "-c", UnitScript, "sh", name}, files...)
	out, err := r.Query(ctx, host.Command(argv...))
	if err != nil {
		return unitState{}, fmt.Errorf("read the state of %s: %w", name, err)
	}
	state, err := parseUnit(out)
	if err != nil {
		return unitState{}, fmt.Errorf("read the state of %s: %w", name, err)
	}
	return state, nil
}

// diffUnit tells what is left to do for the unit to be enabled and running as its files say.
func diffUnit(ctx context.Context, r host.Reader, u unit) ([]workflow.Change, error) {
	state, err := readUnit(ctx, r, u.name, u.files...)
	if err != nil {
		return nil, err
	}
	if why := state.todo(); why != "" {
		return []workflow.Change{{Action: workflow.Run, Object: u.object(), Detail: why}}, nil
	}
	return nil, nil
}

// startUnit enables the unit and starts it anew. Enabling makes systemd read its unit files again.
func startUnit(ctx context.Context, h host.Host, u unit) error {
	for _, verb := range []string{"enable", "restart"} {
		if _, err := h.Run(ctx, host.Command("systemctl", verb, u.name)); err != nil {
			return fmt.Errorf("%s %s: %w; hint: journalctl -u %s on the host", verb, u.name, err, u.name)
		}
	}
	return nil
}

type unitState struct {
	load, active, file string
	needReload         bool
	started, written   time.Time // to the second
}

func (s unitState) todo() string {
	switch {
	case s.load != "loaded":
		return "start"
	case s.file != "enabled":
		return "enable and start"
	case !s.running():
		return "start"
	case s.older():
		return "restart: its files are newer than it"
	}
	return ""
}

func (s unitState) running() bool { return s.active == "active" || s.active == "activating" }

// older tells whether what runs was started before its files were last written.
func (s unitState) older() bool { return s.needReload || s.written.After(s.started) }

// systemdTime is how systemctl show prints a time when TZ is UTC.
const systemdTime = "Mon 2006-01-02 15:04:05 MST"

func parseUnit(out []byte) (unitState, error) {
	var s unitState
	for name, value := range answer(out) {
		switch name {
		case "LoadState":
			s.load = value
		case "ActiveState":
			s.active = value
		case "UnitFileState":
			s.file = value
		case "NeedDaemonReload":
			s.needReload = value == "yes"
		case "ExecMainStartTimestamp":
			if value == "" || value == "n/a" {
				continue
			}
			t, err := time.Parse(systemdTime, value)
			if err != nil {
				return unitState{}, err
			}
			s.started = t
		case "written":
			sec, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return unitState{}, err
			}
			if t := time.Unix(sec, 0); t.After(s.written) {
				s.written = t
			}
		}
	}
	if s.load == "" {
		return unitState{}, fmt.Errorf("systemctl show said nothing of it; hint: does systemd run on the host?")
	}
	return s, nil
}
