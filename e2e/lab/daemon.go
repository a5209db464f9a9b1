package lab

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startDaemon starts a command in a session of its own, so that it outlives lab, with its output added to the file logPath.
// It waits for at most limit until answers, which is called often, returns nil.
func startDaemon(ctx context.Context, logPath string, limit time.Duration, answers func() error, argv ...string) error {
	name := filepath.Base(argv[0])
	file, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	// What this process was handed besides its standard streams is not the daemon's to keep open: a lock, a pipe that
	// somebody reads to its end. Kernels before 5.11 cannot, and then it stays open.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := answers(); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case err := <-ended:
			return fmt.Errorf("%s ended: %w; hint: see %s", name, err, logPath)
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w; hint: see %s", name, ctx.Err(), logPath)
		}
	}
}
