// Package ask asks a Service without a pause, as its users do together, and tells how often there was no answer.
package ask

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Timing of the requests.
const (
	every   = 100 * time.Millisecond
	timeout = 5 * time.Second
)

// Result is what was seen since the start.
type Result struct {
	Requests   int            `json:"requests"`
	Failures   int            `json:"failures"`   // of them: no answer in time, no connection, or another status than 200
	LongestGap float64        `json:"longestGap"` // seconds between two answers
	Servers    map[string]int `json:"servers"`    // answers by the first line of each
	Reasons    map[string]int `json:"reasons"`    // of failures
}

// Asker asks until its context ends.
type Asker struct {
	url    string
	client *http.Client

	mu     sync.Mutex
	result Result
	last   time.Time // answer
}

// Start asks for the first time at once.
func Start(ctx context.Context, url string) *Asker {
	a := &Asker{
		url: url, last: time.Now(), result: Result{Servers: map[string]int{}, Reasons: map[string]int{}},
		// A new connection each time, so that every request is one that the Service has to find a pod for.
		client: &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	go a.run(ctx)
	return a
}

// Result is what was seen until now.
func (a *Asker) Result() Result {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.result
	now.LongestGap = max(now.LongestGap, time.Since(a.last).Seconds())
	now.Servers, now.Reasons = copied(now.Servers), copied(now.Reasons)
	return now
}

func copied(counts map[string]int) map[string]int {
	all := map[string]int{}
	for name, n := range counts {
		all[name] = n
	}
	return all
}

func (a *Asker) run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		server, err := a.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		a.count(server, err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (a *Asker) ask(ctx context.Context) (server string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url, nil)
	if err != nil {
		return "", err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", response.StatusCode)
	}
	server, _, _ = strings.Cut(string(body), "\n")
	return server, err
}

func (a *Asker) count(server string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.result.Requests++
	if err != nil {
		a.result.Failures++
		a.result.Reasons[reasonOf(err)]++
		return
	}
	now := time.Now()
	a.result.LongestGap = max(a.result.LongestGap, now.Sub(a.last).Seconds())
	a.last = now
	a.result.Servers[server]++
}

// reasonOf names a failure without what differs from one to the next.
func reasonOf(err error) string {
	var name *net.DNSError
	var operation *net.OpError
	var network net.Error
	switch {
	case errors.As(err, &name):
		return "no address: " + name.Err
	case errors.As(err, &network) && network.Timeout():
		return "no answer in time"
	case errors.As(err, &operation):
		return operation.Op + ": " + operation.Err.Error()
	}
	return err.Error()
}
