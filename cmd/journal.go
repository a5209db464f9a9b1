package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/debuglog"
	"github.com/myadm/myadm/redact"
	"github.com/myadm/myadm/timeline"
	"github.com/myadm/myadm/workflow"
)

// journal is what a command tells of itself besides its result: on stderr as text or JSON, in the debug log and, if that was
// asked for, as a timeline. One is made for each command line. nil tells on stderr alone, as text.
type journal struct {
	format logFormat
	mask   redact.Masker
	stderr io.Writer

	command  *cobra.Command // nil until its flags were read
	kept     bool           // the command keeps a debug log
	timeline string         // a file, or nothing
	began    time.Time

	mu       sync.Mutex
	log      *debuglog.Log // nil: there is none, or not yet
	tried    bool          // to open it
	events   []workflow.Event
	pace     pace // of what the log has of progress
	outcomes []workflow.Outcome
}

func newJournal(stderr io.Writer) *journal { return &journal{stderr: stderr, began: time.Now()} }

// keptKey marks commands that keep a debug log.
const keptKey = "myadm.dev/kept"

// keepLog has a command keep a debug log: it is one that changes something.
func keepLog(cmd *cobra.Command) {
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[keptKey] = "true"
}

// keep has a command keep a debug log, and gives it --timeline: it is one that changes something by running phases.
func keep(cmd *cobra.Command) {
	keepLog(cmd)
	cmd.Flags().String("timeline", "", "HTML `file` to write: what ran when on which host, to find the slow part; see docs/watching.md")
}

// begin is told the command that is about to run, with its flags.
func (j *journal) begin(cmd *cobra.Command) error {
	j.command, j.kept = cmd, cmd.Annotations[keptKey] != ""
	for _, name := range []string{"token", "certificate-key"} {
		if f := cmd.Flags().Lookup(name); f != nil {
			j.mask.Add(f.Value.String())
		}
	}
	j.mask.Add(os.Getenv("MYADM_SUDO_PASSWORD"))
	f := cmd.Flags().Lookup("timeline")
	if f == nil || f.Value.String() == "" {
		return nil
	}
	j.timeline = f.Value.String()
	// What would only be seen when all is done is seen now.
	if info, err := os.Stat(filepath.Dir(j.timeline)); err != nil {
		return usageError{fmt.Errorf("--timeline: %w", err)}
	} else if !info.IsDir() {
		return usageError{fmt.Errorf("--timeline: %s is no folder", filepath.Dir(j.timeline))}
	}
	if info, err := os.Stat(j.timeline); err == nil && !info.Mode().IsRegular() {
		return usageError{fmt.Errorf("--timeline: %s is no file", j.timeline)}
	}
	return nil
}

// hide has a secret be masked in all that is told from now on.
func (j *journal) hide(secret string) {
	if j != nil {
		j.mask.Add(secret)
	}
}

// name is the command's, without "myadm".
func (j *journal) name() string {
	if j.command == nil {
		return ""
	}
	_, name, _ := strings.Cut(j.command.CommandPath(), " ")
	return name
}

// logger is the debug log. It is begun when it is first asked for: a command line that is wrong leaves none. One that cannot
// be written is a warning.
func (j *journal) logger() *slog.Logger {
	if j == nil || !j.kept {
		return slog.New(slog.DiscardHandler)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.tried {
		j.tried = true
		if err := j.open(); err != nil {
			j.note(slog.LevelWarn, "there is no debug log of this run: "+err.Error())
		}
	}
	if j.log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return j.log.Logger
}

func (j *journal) open() error {
	dir, err := debuglog.Dir()
	if err != nil {
		return err
	}
	j.log, err = debuglog.Open(debuglog.Options{Dir: dir, Command: j.name(), Time: j.began, PID: os.Getpid(), Mask: j.mask.Text})
	if err != nil {
		return err
	}
	j.log.Info("begin", "command", j.command.CommandPath(), "version", Version, "arguments", strings.Join(os.Args, " "))
	return nil
}

// changed keeps in the debug log what a command has changed without a phase.
func (j *journal) changed(action workflow.Action, object string) {
	j.logger().Info("change", "action", action, "object", object)
}

// record keeps an event of phases, for the timeline and the debug log.
func (j *journal) record(e workflow.Event) {
	if j == nil || !j.kept {
		return
	}
	h := j.logger().Handler()
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case e.Kind != workflow.Progress:
		logEvent(h, e)
		if j.timeline != "" {
			e.Changes = make([]workflow.Change, len(e.Changes)) // their number is all that is shown, and they may be large
			j.events = append(j.events, e)
		}
	case j.pace.due(e): // there are many, and they end in an event of another kind
		logEvent(h, e)
	}
}

// span keeps, for the timeline, what was done on a host without being a phase.
func (j *journal) span(name, host string, began time.Time, err error) {
	now := time.Now()
	e := workflow.Event{Time: began, Kind: workflow.Checking, Phase: name, Host: host}
	j.record(e)
	e.Time, e.Kind, e.Elapsed = now, workflow.Unchanged, now.Sub(began)
	if err != nil {
		e.Kind, e.Err = workflow.Failed, err
	}
	j.record(e)
}

// ended keeps how far a run of phases has come, instead of what was kept of the same hosts.
func (j *journal) ended(outcomes ...workflow.Outcome) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, o := range outcomes {
		known := false
		for i := range j.outcomes {
			if j.outcomes[i].Host == o.Host {
				j.outcomes[i], known = o, true
			}
		}
		if !known {
			j.outcomes = append(j.outcomes, o)
		}
	}
}

// note tells something on stderr that is no event of a phase.
func (s Streams) note(level slog.Level, text string) {
	if s.journal == nil {
		s.journal = newJournal(s.Err)
	}
	s.journal.note(level, text)
}

func (j *journal) note(level slog.Level, text string) {
	if j.json() {
		slog.New(jsonHandler(j.stderr, j.mask.Text)).Log(context.TODO(), level, "note", "detail", text) //nolint:forbidigo // nothing is waited for
		return
	}
	if level >= slog.LevelWarn {
		text = "warning: " + strings.ReplaceAll(text, "; hint: ", "\n  hint: ")
	}
	fmt.Fprintln(j.stderr, text)
}

func (j *journal) json() bool { return j != nil && j.format == logJSON }

// end tells how the command has ended, and returns its exit code.
func (j *journal) end(ctx context.Context, stdout io.Writer, err error) int {
	if e := j.writeTimeline(ctx, err); e != nil {
		err = errors.Join(err, e)
	}
	code := exitCode(ctx, err)
	if code != exitDone && code != exitChanges {
		j.tellFailure(stdout, code, err)
	}
	if j.log != nil {
		for _, e := range flatten(err) {
			j.log.Error("error", "error", e.Error())
		}
		for _, o := range j.outcomes {
			j.log.Info("outcome", outcomeAttrs(o)...)
		}
		j.log.Info("end", "code", code, "elapsed", time.Since(j.began).Seconds())
		_ = j.log.Close()
	}
	return code
}

// tellFailure tells the errors, then per host what is done and what is not, and in the end where more is to be read.
func (j *journal) tellFailure(stdout io.Writer, code int, err error) {
	ran := ranSomewhere(j.outcomes)
	if j.json() {
		log := slog.New(jsonHandler(j.stderr, j.mask.Text))
		for _, e := range flatten(err) {
			log.Error("error", errorAttrs(e)...)
		}
		if ran {
			for _, o := range j.outcomes {
				log.Info("outcome", outcomeAttrs(o)...)
			}
		}
		if j.log != nil {
			log.Info("debug-log", "path", j.log.Path())
		}
	} else {
		printError(j.stderr, err, j.mask.Text)
		if ran {
			printOutcomes(j.stderr, j.outcomes, code == exitInterrupted, j.mask.Text)
		}
		if j.log != nil {
			fmt.Fprintf(j.stderr, "debug log: %s\n", j.log.Path())
		}
	}
	if f := j.outputFlag(); ran && f == "json" {
		_ = writeJSON(stdout, failure{Failed: true, Errors: texts(err, j.mask.Text), Hosts: masked(j.outcomes, j.mask.Text), DebugLog: j.logPath()})
	}
}

// failure is what a command that runs phases writes with -o json when not everything is done.
type failure struct {
	Failed   bool               `json:"failed"`
	Errors   []string           `json:"errors"`
	Hosts    []workflow.Outcome `json:"hosts"`
	DebugLog string             `json:"debugLog,omitempty"`
}

func (j *journal) outputFlag() string {
	if j.command == nil {
		return ""
	}
	if f := j.command.Flags().Lookup("output"); f != nil {
		return f.Value.String()
	}
	return ""
}

func (j *journal) logPath() string {
	if j.log == nil {
		return ""
	}
	return j.log.Path()
}

// writeTimeline writes the page, whole or not at all, if there is something to show.
func (j *journal) writeTimeline(ctx context.Context, err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.timeline == "" || len(j.events) == 0 {
		return nil
	}
	run := timeline.Run{Command: j.command.CommandPath(), Version: Version, Began: j.began, Ended: time.Now(), Mask: j.mask.Text}
	switch {
	case ctx.Err() != nil:
		run.Result = timeline.Interrupted
	case err != nil:
		run.Result = timeline.Failed
	}
	if err := writeWhole(j.timeline, 0o644, func(w io.Writer) error { return timeline.Write(w, run, j.events) }); err != nil {
		return fmt.Errorf("write the timeline: %w", err)
	}
	return nil
}

// writeWhole writes a file so that it is there as a whole or as it was.
func writeWhole(path string, mode os.FileMode, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
