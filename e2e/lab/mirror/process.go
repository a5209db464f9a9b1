package mirror

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The files of the folder of a mirror that is a process of its own. TLSDir may be the same folder.
const (
	optionsFile = "options.json" // Options
	stateFile   = "state.json"   // State, while it serves
	lockFile    = "lock"         // locked while it serves
	dockerFile  = "config.json"  // for DOCKER_CONFIG, if there is a password
)

// State is what others know of a mirror in a process of its own.
type State struct {
	URL      string `json:"url"`
	AdminURL string `json:"adminURL"`
	CAFile   string `json:"caFile,omitempty"`
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	PID      int    `json:"pid"`
}

// ErrNotRunning is that of a folder whose mirror does not run.
var ErrNotRunning = errors.New("no mirror runs; hint: lab mirror up")

// Prepare writes the options for Serve into a folder, which it makes. They may have a password: only their user reads them.
func Prepare(dir string, o Options) error {
	if _, err := Running(dir); err == nil {
		return fmt.Errorf("mirror in %s: one runs already; hint: lab mirror down", dir)
	} else if !errors.Is(err, ErrNotRunning) {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, stateFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // what a killed one left
	}
	return writeFile(filepath.Join(dir, optionsFile), o)
}

// Serve is the process: it serves what the folder's options say until ctx ends or somebody stops it. It has an admin
// endpoint, and it has the folder to itself.
func Serve(ctx context.Context, dir string) error {
	held, err := hold(dir)
	if err != nil {
		return err
	}
	defer held.Close()
	var o Options
	if err := readFile(filepath.Join(dir, optionsFile), &o); err != nil {
		return err
	}
	o.AdminListen = "127.0.0.1:0"
	m, err := Start(ctx, o)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.publish(dir); err != nil {
		return err
	}
	defer os.Remove(filepath.Join(dir, stateFile))
	select {
	case <-ctx.Done():
	case <-m.Stopped():
	}
	return nil
}

// publish writes what others need, the state last.
func (m *Mirror) publish(dir string) error {
	if m.options.Password != "" {
		u, err := url.Parse(m.URL)
		if err != nil {
			return err
		}
		login := base64.StdEncoding.EncodeToString([]byte(m.options.Username + ":" + m.options.Password))
		config := map[string]any{"auths": map[string]any{u.Host: map[string]string{"auth": login}}}
		if err := writeFile(filepath.Join(dir, dockerFile), config); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(dir, stateFile), State{
		URL: m.URL, AdminURL: m.AdminURL, CAFile: m.CAFile, Username: m.options.Username, Password: m.options.Password, PID: os.Getpid(),
	})
}

// Running is the state of the mirror of a folder. If none runs, or not yet, the error wraps ErrNotRunning.
func Running(dir string) (State, error) {
	var s State
	taken, err := isHeld(dir)
	if err == nil && taken {
		err = readFile(filepath.Join(dir, stateFile), &s)
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil && !taken {
		err = ErrNotRunning
	}
	if err != nil {
		return State{}, fmt.Errorf("mirror in %s: %w", dir, err)
	}
	return s, nil
}

// stopTime is how long a mirror may take to end before it is killed.
const stopTime = 10 * time.Second

// Stop ends the mirror of a folder and returns once it has ended. None is no error.
func Stop(ctx context.Context, dir string) error {
	s, err := Running(dir)
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	asked, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	askErr := Admin{URL: s.AdminURL}.Stop(asked) // which may be cut off by the end itself
	if err := released(asked, dir); err == nil || ctx.Err() != nil {
		return err
	}
	// It holds the folder, so the process is still the one that wrote its number.
	if err := unix.Kill(s.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end mirror in %s: %w", dir, errors.Join(askErr, err))
	}
	return released(ctx, dir)
}

// released waits until nobody has the folder. Nothing tells except a call that cannot be interrupted, so it asks often.
func released(ctx context.Context, dir string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if taken, err := isHeld(dir); err != nil || !taken {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("end mirror in %s: %w", dir, ctx.Err())
		}
	}
}

// hold takes the folder until the file is closed; the kernel gives it back when the process ends. The lock is one of an
// open file description (fcntl(2)), since one can ask for that without taking it.
func hold(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if err == nil {
		return file, nil
	}
	file.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		err = errors.New("another mirror has the folder")
	}
	return nil, fmt.Errorf("lock %s: %w", dir, err)
}

// isHeld tells whether a process has the folder.
func isHeld(dir string) (bool, error) {
	file, err := os.Open(filepath.Join(dir, lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return false, fmt.Errorf("lock %s: %w", dir, err)
	}
	return lock.Type != unix.F_UNLCK, nil
}

// writeFile writes a value as JSON in one step, for nobody else to read.
func writeFile(name string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(name), ".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(append(data, '\n'))
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}

func readFile(name string, value any) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
