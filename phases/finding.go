package phases

import (
	"fmt"
	"strings"
)

// Finding is something that preflight has against a host.
type Finding struct {
	Name    string `json:"name"` // stable: --ignore-preflight-errors takes it; kubeadm's name where it has the same check
	Fatal   bool   `json:"fatal"`
	Message string `json:"message"`
}

// PreflightError is a host that is refused, with everything there is against it.
type PreflightError struct{ Findings []Finding }

func (e *PreflightError) Error() string {
	lines := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		lines[i] = fmt.Sprintf("[%s] %s", f.Name, f.Message)
	}
	return strings.Join(lines, "\n  ")
}

// Ignored reports whether the user asked not to be stopped by a finding: by its name in any case, or by "all".
func Ignored(name string, ignore []string) bool {
	for _, i := range ignore {
		if strings.EqualFold(i, name) || strings.EqualFold(i, "all") {
			return true
		}
	}
	return false
}
