package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
)

// The paths of the admin endpoint.
const (
	statsPath  = "/_lab/stats"  // GET: Stats; DELETE: count anew
	faultsPath = "/_lab/faults" // GET: those that are on; POST: switch one on; DELETE: switch all off
	stopPath   = "/_lab/stop"   // POST
)

// quiet is for net/http's reports of connections that a fault has cut.
var quiet = log.New(io.Discard, "", 0)

// admin answers whoever operates the mirror.
func (m *Mirror) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statsPath, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, m.Stats()) })
	mux.HandleFunc("DELETE "+statsPath, func(http.ResponseWriter, *http.Request) { m.ResetStats() })
	mux.HandleFunc("GET "+faultsPath, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, m.Faults()) })
	mux.HandleFunc("DELETE "+faultsPath, func(http.ResponseWriter, *http.Request) { m.Heal() })
	mux.HandleFunc("POST "+faultsPath, func(w http.ResponseWriter, r *http.Request) {
		var f Fault
		decoder := json.NewDecoder(r.Body)
		decoder.DisallowUnknownFields()
		err := decoder.Decode(&f)
		if err == nil {
			err = m.Fail(f)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	mux.HandleFunc("POST "+stopPath, func(http.ResponseWriter, *http.Request) { m.stop.Do(func() { close(m.stopped) }) })
	return mux
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // the client has gone
}

// Admin operates a mirror in another process, through its admin endpoint. Its methods do what the Mirror's do.
type Admin struct {
	URL string
}

// Stats is what was served.
func (a Admin) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	err := a.do(ctx, http.MethodGet, statsPath, nil, &s)
	return s, err
}

// ResetStats begins to count anew.
func (a Admin) ResetStats(ctx context.Context) error {
	return a.do(ctx, http.MethodDelete, statsPath, nil, nil)
}

// Fail switches a fault on.
func (a Admin) Fail(ctx context.Context, f Fault) error {
	return a.do(ctx, http.MethodPost, faultsPath, f, nil)
}

// Heal switches all faults off.
func (a Admin) Heal(ctx context.Context) error {
	return a.do(ctx, http.MethodDelete, faultsPath, nil, nil)
}

// Faults are those that are on.
func (a Admin) Faults(ctx context.Context) ([]Fault, error) {
	var all []Fault
	err := a.do(ctx, http.MethodGet, faultsPath, nil, &all)
	return all, err
}

// Stop asks the mirror to end. It may still be there when Stop returns.
func (a Admin) Stop(ctx context.Context) error {
	return a.do(ctx, http.MethodPost, stopPath, nil, nil)
}

func (a Admin) do(ctx context.Context, method, path string, send, receive any) error {
	body, err := json.Marshal(send)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, a.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("mirror's admin endpoint: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		said, err := io.ReadAll(io.LimitReader(response.Body, 4096))
		if err != nil {
			return err
		}
		return fmt.Errorf("mirror: %s", strings.TrimSpace(string(said)))
	}
	if receive == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(receive)
}
