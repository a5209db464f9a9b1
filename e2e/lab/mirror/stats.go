package mirror

import (
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Count is how many requests there were and how many bytes of bodies they were answered with.
type Count struct {
	Requests int   `json:"requests"`
	Bytes    int64 `json:"bytes"`
}

// Request is one request.
type Request struct {
	Began  time.Time `json:"began"`
	Client string    `json:"client"` // address, without its port
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Range  string    `json:"range,omitempty"`
	Status int       `json:"status"` // 0: the connection was cut before an answer
	Bytes  int64     `json:"bytes"`  // of the body, as far as it has been sent
}

// Stats are what a mirror has served.
type Stats struct {
	Total   Count            `json:"total"`
	Paths   map[string]Count `json:"paths"`
	Clients map[string]Count `json:"clients"`
	Log     []Request        `json:"log"` // in the order in which they ended; last those that have not
}

// maxLog bounds the log; counts go on.
const maxLog = 100_000

// recorder keeps the stats. A request counts from its beginning and a byte from just before it is sent, so that whoever
// has got an answer finds it counted.
type recorder struct {
	mu    sync.Mutex
	ended Stats
	open  map[*counter]bool
}

func newRecorder() *recorder {
	r := &recorder{open: map[*counter]bool{}}
	r.reset()
	return r
}

func newStats() Stats {
	return Stats{Paths: map[string]Count{}, Clients: map[string]Count{}, Log: []Request{}}
}

func (c *recorder) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = newStats()
	clear(c.open) // they do not count any more
}

// snapshot is what has been served until now, those requests last that have not ended.
func (c *recorder) snapshot() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.ended
	s.Paths, s.Clients, s.Log = maps.Clone(s.Paths), maps.Clone(s.Clients), slices.Clone(s.Log)
	for request := range c.open {
		s.add(request.sofar())
	}
	return s
}

func (s *Stats) add(r Request) {
	s.Total = s.Total.plus(r)
	s.Paths[r.Path] = s.Paths[r.Path].plus(r)
	s.Clients[r.Client] = s.Clients[r.Client].plus(r)
	if len(s.Log) < maxLog {
		s.Log = append(s.Log, r)
	}
}

func (c Count) plus(r Request) Count { return Count{c.Requests + 1, c.Bytes + r.Bytes} }

// record counts what next answers, however it ends.
func (c *recorder) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := &counter{ResponseWriter: w, request: Request{
			Began: time.Now(), Client: clientOf(r), Method: r.Method, Path: r.URL.Path, Range: r.Header.Get("Range"),
		}}
		c.mu.Lock()
		c.open[request] = true
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.open[request] {
				delete(c.open, request)
				c.ended.add(request.sofar())
			}
		}()
		next.ServeHTTP(request, r)
	})
}

// clientOf is the address that a request comes from.
func clientOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// counter counts the bytes of a body.
type counter struct {
	http.ResponseWriter
	request Request
	status  atomic.Int64
	bytes   atomic.Int64
}

func (c *counter) sofar() Request {
	r := c.request
	r.Status, r.Bytes = int(c.status.Load()), c.bytes.Load()
	return r
}

func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *counter) WriteHeader(status int) {
	c.status.Store(int64(status))
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(p []byte) (int, error) {
	c.status.CompareAndSwap(0, http.StatusOK)
	c.bytes.Add(int64(len(p)))
	n, err := c.ResponseWriter.Write(p)
	c.bytes.Add(int64(n - len(p)))
	return n, err
}

// ReadFrom lets net/http hand files to the kernel, which it does for a file with one limit around it.
func (c *counter) ReadFrom(r io.Reader) (sent int64, err error) {
	c.status.CompareAndSwap(0, http.StatusOK)
	limited, ok := r.(*io.LimitedReader)
	if !ok {
		limited = &io.LimitedReader{R: r, N: math.MaxInt64}
	}
	for limited.N > 0 {
		chunk := min(limited.N, 1<<20)
		c.bytes.Add(chunk)
		n, err := io.Copy(c.ResponseWriter, &io.LimitedReader{R: limited.R, N: chunk})
		c.bytes.Add(n - chunk)
		limited.N -= n
		sent += n
		if err != nil || n < chunk {
			return sent, err
		}
	}
	return sent, nil
}
