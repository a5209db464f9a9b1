package upgrade

import (
	"context"
	"strings"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

// PreflightOptions are what an upgrade's preflight goes by.
type PreflightOptions struct {
	Target string   // the version to upgrade to
	Force  bool     // an older patch release will do
	Ignore []string // names of findings that are to be warnings; "all" for every one
	State  *State   // what a Survey has found; nil: it is made
}

// Preflight refuses an upgrade that would go wrong, with everything there is against it, and warns of the rest. It changes
// nothing. Its error is a *phases.PreflightError.
func Preflight(c *cluster.Cluster, opts PreflightOptions) workflow.Phase {
	return workflow.Phase{
		Name:  "preflight",
		Short: "check that the cluster can be upgraded",
		Check: func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
			to, err := TargetOf(c, opts.Target, opts.Force)
			if err != nil {
				return nil, err
			}
			state := opts.State
			if state == nil {
				if state, err = Survey(ctx, c); err != nil {
					return nil, err
				}
			}
			var refused phases.PreflightError
			for _, f := range Findings(state, to) {
				if f.Fatal && !phases.Ignored(f.Name, opts.Ignore) {
					refused.Findings = append(refused.Findings, phases.Finding{Name: f.Name, Fatal: true, Message: f.String()})
				} else {
					workflow.Warn(ctx, "["+f.Name+"] "+f.String())
				}
			}
			if len(refused.Findings) > 0 {
				return nil, &refused
			}
			return nil, nil
		},
	}
}

// String is the finding in a line, with its hint.
func (f Finding) String() string {
	var line strings.Builder
	if f.Where != whereCluster {
		line.WriteString(f.Where + ": ")
	}
	line.WriteString(f.Message)
	if f.Hint != "" {
		line.WriteString("; hint: " + f.Hint)
	}
	return line.String()
}
