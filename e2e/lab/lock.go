package lab

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lock takes a folder for this process and returns how to give it back. The kernel gives it back when the process ends.
// Nothing tells when it comes free except a call that cannot be interrupted, so it asks often.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if err != syscall.EWOULDBLOCK {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("lock %s: %w; another lab command holds it", dir, ctx.Err())
		}
	}
}
