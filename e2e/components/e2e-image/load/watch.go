package load

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// watch follows the objects until ctx ends: from where it was when its connection ends, and from a new list when the
// cluster does not know that point any more.
func (l *Load) watch(ctx context.Context) {
	for version := ""; ; {
		var err error
		if version == "" {
			version, err = l.list(ctx)
		}
		if err == nil {
			version, err = l.follow(ctx, version)
		}
		if ctx.Err() != nil {
			return
		}
		gone := apierrors.IsGone(err) || apierrors.IsResourceExpired(err)
		if gone {
			version = ""
		}
		l.reconnect(gone)
		if !pause(ctx, retryEvery) {
			return
		}
	}
}

// list notes the numbers that there are, and returns the point from which to watch.
func (l *Load) list(ctx context.Context) (version string, err error) {
	var found *corev1.ConfigMapList
	err = l.request(ctx, func(ctx context.Context) (err error) {
		found, err = l.o.Client.List(ctx, metav1.ListOptions{LabelSelector: label + "=" + l.o.Name})
		return err
	})
	if err != nil {
		return "", err
	}
	for i := range found.Items {
		l.notice(&found.Items[i], true)
	}
	return found.ResourceVersion, nil
}

// follow watches from a point on until the connection ends, and returns the point that was reached. To begin it has the
// time of a request.
func (l *Load) follow(ctx context.Context, version string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	patience := time.AfterFunc(l.o.Timeout, cancel)
	stream, err := l.o.Client.Watch(ctx, metav1.ListOptions{
		LabelSelector: label + "=" + l.o.Name, ResourceVersion: version, AllowWatchBookmarks: true,
	})
	patience.Stop()
	if err != nil {
		return version, err
	}
	defer stream.Stop()
	for {
		var event watch.Event
		var open bool
		select {
		case event, open = <-stream.ResultChan():
		case <-ctx.Done():
			return version, ctx.Err()
		}
		object, isObject := event.Object.(*corev1.ConfigMap)
		switch {
		case !open:
			return version, nil
		case event.Type == watch.Error:
			return version, apierrors.FromObject(event.Object)
		case !isObject:
			return version, fmt.Errorf("the watch told of a %T", event.Object)
		case event.Type == watch.Added, event.Type == watch.Modified:
			l.notice(object, false)
		}
		version = object.ResourceVersion
	}
}

// notice notes a number that the watch told, or the list that it begins with. Every number has an event, in order; what
// lies before a list is superseded by it.
func (l *Load) notice(m *corev1.ConfigMap, listed bool) {
	number, err := strconv.Atoi(m.Data[numberKey])
	if err != nil {
		return // nobody's but another program's, and a read tells
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.objects {
		if o.name != m.Name {
			continue
		}
		if number < o.seen || !listed && number != o.seen+1 {
			l.lap.Missed = append(l.lap.Missed, fmt.Sprintf("%s: %d came after %d", o.name, number, o.seen))
		}
		if !listed {
			l.lap.Events++
		}
		now := time.Now()
		l.lap.LongestWatchGap = max(l.lap.LongestWatchGap, seconds(now.Sub(o.told)))
		o.seen, o.told = number, now
	}
	close(l.progress)
	l.progress = make(chan struct{})
}

// reconnect counts the end of a connection of the watch.
func (l *Load) reconnect(relist bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lap.Reconnects++
	if relist {
		l.lap.Relists++
	}
}

// awaitWatch waits until the watch has told every number that was acknowledged.
func (l *Load) awaitWatch(ctx context.Context) error {
	for {
		l.mu.Lock()
		var behind []error
		for _, o := range l.objects {
			if o.seen < o.acknowledged {
				behind = append(behind, fmt.Errorf("%s: %d was acknowledged, and the watch is at %d", o.name, o.acknowledged, o.seen))
			}
		}
		next := l.progress
		l.mu.Unlock()
		if len(behind) == 0 {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return errors.Join(behind...)
		}
	}
}
