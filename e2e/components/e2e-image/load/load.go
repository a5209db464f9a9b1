// Package load puts a steady load of writes and a watch on a cluster, and tells what a client saw of it: how many requests
// failed, for how long nothing could be written or was heard, and whether anything that was acknowledged got lost.
//
// A load owns a few ConfigMaps. In each it counts: it writes the next number once the last one is acknowledged and was read
// back, and every write names the version of the object that it replaces, so that a try which was given up cannot arrive later and undo
// another. What a read or the watch says is compared with what was acknowledged.
package load

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Options say what a load is. Client and Name are needed.
type Options struct {
	Client  corev1client.ConfigMapInterface
	Name    string        // of this load alone: begins the names of the ConfigMaps, and is in the result
	Objects int           // how many there are, default 3
	Every   time.Duration // pause between two writes of one object, default 200 ms
	Timeout time.Duration // of a request, default 2 s; the watch itself has none
}

// The data's key of the number, and the label by which the watch selects a load's objects.
const (
	numberKey = "number"
	label     = "e2e-load"
)

// retryEvery is the pause after a request that failed.
const retryEvery = 100 * time.Millisecond

// Load is a load that runs.
type Load struct {
	o         Options
	objects   []*object
	endWrites context.CancelFunc
	endWatch  context.CancelFunc
	writers   sync.WaitGroup
	watcher   sync.WaitGroup

	mu         sync.Mutex // guards what follows, and the fields of objects that say so
	lap, total Result
	lapBegan   time.Time
	progress   chan struct{} // closed and made anew at every event of the watch
}

// object is one ConfigMap.
type object struct {
	name    string
	version string // resourceVersion to replace; empty when it has to be read first. The writer's own

	acknowledged int       // the last number that the cluster has taken; guarded by Load.mu
	written      time.Time // when it was; guarded by Load.mu
	seen         int       // the last number that the watch told; guarded by Load.mu
	told         time.Time // when it did; guarded by Load.mu
}

// Start begins a load, which goes on until Stop or until ctx ends.
func Start(ctx context.Context, o Options) *Load {
	if o.Objects == 0 {
		o.Objects = 3
	}
	if o.Every == 0 {
		o.Every = 200 * time.Millisecond
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	now := time.Now()
	l := &Load{o: o, lap: newResult(o.Name), total: newResult(o.Name), lapBegan: now, progress: make(chan struct{})}
	var writes, watch context.Context
	writes, l.endWrites = context.WithCancel(ctx)
	watch, l.endWatch = context.WithCancel(ctx)
	for i := range o.Objects {
		object := &object{name: fmt.Sprintf("%s-%d", o.Name, i+1), written: now, told: now}
		l.objects = append(l.objects, object)
		l.writers.Go(func() { l.write(writes, object) })
	}
	l.watcher.Go(func() { l.watch(watch) })
	return l
}

// Stop ends the load, reads every object once more, waits until the watch has told all that was acknowledged, and
// returns the whole result. What cannot be read, or is not told, before ctx ends is in the error.
func (l *Load) Stop(ctx context.Context) (Result, error) {
	l.endWrites()
	l.writers.Wait()
	var errs []error
	for _, o := range l.objects {
		errs = append(errs, l.verify(ctx, o))
	}
	errs = append(errs, l.awaitWatch(ctx))
	l.endWatch()
	l.watcher.Wait()
	l.Lap()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total, errors.Join(errs...)
}

// write counts in an object, one number after the other.
func (l *Load) write(ctx context.Context, o *object) {
	tick := time.NewTicker(l.o.Every)
	defer tick.Stop()
	for number := 1; ; number++ {
		for l.put(ctx, o, number) != nil {
			if !pause(ctx, retryEvery) {
				return
			}
		}
		_, _ = l.read(ctx, o) // what comes of it is counted
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// put tries once to write a number. nil means that it is acknowledged.
func (l *Load) put(ctx context.Context, o *object, number int) error {
	store := l.update
	if o.version == "" {
		found, err := l.read(ctx, o)
		switch {
		case apierrors.IsNotFound(err):
			store = l.create
		case err != nil:
			return err
		case found == number: // an earlier try did arrive
			l.acknowledge(o, number)
			return nil
		}
	}
	wanted := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: o.name, Labels: map[string]string{label: l.o.Name}, ResourceVersion: o.version},
		Data:       map[string]string{numberKey: strconv.Itoa(number)},
	}
	var stored *corev1.ConfigMap
	err := l.request(ctx, func(ctx context.Context) (err error) {
		stored, err = store(ctx, wanted)
		return err
	})
	if err != nil {
		o.version = "" // whether it arrived, the object itself will tell
		return err
	}
	o.version = stored.ResourceVersion
	l.acknowledge(o, number)
	return nil
}

func (l *Load) create(ctx context.Context, m *corev1.ConfigMap) (*corev1.ConfigMap, error) {
	return l.o.Client.Create(ctx, m, metav1.CreateOptions{})
}

func (l *Load) update(ctx context.Context, m *corev1.ConfigMap) (*corev1.ConfigMap, error) {
	return l.o.Client.Update(ctx, m, metav1.UpdateOptions{})
}

// read reads the number of an object, and remembers the version. That something acknowledged is not there is noted.
func (l *Load) read(ctx context.Context, o *object) (number int, err error) {
	var found *corev1.ConfigMap
	err = l.request(ctx, func(ctx context.Context) (err error) {
		found, err = l.o.Client.Get(ctx, o.name, metav1.GetOptions{})
		return err
	})
	switch {
	case apierrors.IsNotFound(err):
		l.compare(o, 0)
		return 0, err
	case err != nil:
		return 0, err
	}
	if number, err = strconv.Atoi(found.Data[numberKey]); err != nil {
		return 0, fmt.Errorf("ConfigMap %s: %w", o.name, err)
	}
	o.version = found.ResourceVersion
	l.compare(o, number)
	return number, nil
}

// verify reads an object for the last time.
func (l *Load) verify(ctx context.Context, o *object) error {
	for {
		_, err := l.read(ctx, o)
		if err == nil || apierrors.IsNotFound(err) { // the latter is noted, if it is a loss
			return nil
		}
		if !pause(ctx, retryEvery) {
			return fmt.Errorf("read %s: %w", o.name, err)
		}
	}
}

// request counts a request, gives it its time, and counts it once more if it fails. That there is no such object, or
// another version of it, is an answer.
func (l *Load) request(ctx context.Context, do func(ctx context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, l.o.Timeout)
	defer cancel()
	err := do(limited)
	if ctx.Err() != nil { // the end of the load, and nobody's failure
		return err
	}
	l.count(err)
	return err
}

// pause waits, and tells whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
