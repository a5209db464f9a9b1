package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/myadm/myadm/courier/wire"
)

// aliveEvery is how often a server tells what it has sent when that has not changed: a connection to myadm that is broken
// without a word is noticed only by writing to it.
const aliveEvery = 30 * time.Second

// sendTimeout is how long a peer may take nothing.
const sendTimeout = 30 * time.Second

// server gives blobs to peers that have the token.
type server struct {
	mu    sync.RWMutex
	paths map[string]string // by SHA-256

	want [sha256.Size]byte // of the Authorization header: equally long, so that comparing tells nothing

	sent, requests, refused atomic.Int64
}

// serve serves until ctx ends, which is how it is meant to end: that is no error. An offer that is wrong is one.
func serve(ctx context.Context, request *wire.Serve, offers <-chan offered, out *output) error {
	s := &server{paths: map[string]string{}, want: sha256.Sum256([]byte("Bearer " + request.Token))}
	s.add(request.Blobs)
	certificate, err := tls.X509KeyPair([]byte(request.Certificate), []byte(request.Key))
	if err != nil {
		return fmt.Errorf("certificate and key: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", request.Address)
	if err != nil {
		return err
	}
	web := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: connectTimeout,
		IdleTimeout:       headerTimeout,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // what strangers do is counted
	}
	ended := make(chan error, 1)
	go func() {
		ended <- web.Serve(tls.NewListener(listener, &tls.Config{
			Certificates: []tls.Certificate{certificate},
			MinVersion:   tls.VersionTLS13,
			NextProtos:   []string{"http/1.1"},
		}))
	}()
	out.emit(wire.Listening{Address: listener.Addr().String()})
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	go s.tell(watching, out)
	defer web.Close()
	for ctx.Err() == nil {
		select {
		case err := <-ended:
			return err
		case o := <-offers:
			if o.err != nil {
				return o.err
			}
			s.add(o.Blobs)
		case <-ctx.Done():
		}
	}
	web.Close()
	out.emit(s.served())
	out.emit(wire.Done{})
	return nil
}

// ServeHTTP answers GET and HEAD of /sha256/HEX, and tells nothing to those without the token. A blob that is not at its
// path any more is gone, and the others are served on.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	deadlines := http.NewResponseController(w)
	deadlines.SetWriteDeadline(time.Now().Add(sendTimeout)) //nolint:errcheck // the connection has ended
	refuse := func(code int) {
		s.refused.Add(1)
		http.Error(w, http.StatusText(code), code)
	}
	got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
	sum, ok := strings.CutPrefix(r.RequestURI, "/sha256/")
	path, known := s.path(sum)
	switch {
	case subtle.ConstantTimeCompare(got[:], s.want[:]) != 1:
		refuse(http.StatusUnauthorized)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		refuse(http.StatusMethodNotAllowed)
		return
	case !ok || !known:
		refuse(http.StatusNotFound)
		return
	}
	file, err := openRegular(path)
	if err != nil {
		refuse(http.StatusGone)
		return
	}
	defer file.Close()
	s.requests.Add(1)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+sum+`"`)
	http.ServeContent(&counted{w, deadlines, &s.sent}, r, "", time.Time{}, file)
}

// openRegular opens a file, and waits for no other end of something that is none.
func openRegular(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, errors.Join(err, &os.PathError{Op: "open", Path: path, Err: errors.New("it is not a regular file")})
	}
	return file, nil
}

// tell tells what has been served.
func (s *server) tell(ctx context.Context, out *output) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	var told wire.Served
	at := time.Now()
	for {
		select {
		case now := <-tick.C:
			if served := s.served(); served != told || now.Sub(at) >= aliveEvery {
				told, at = served, now
				out.emit(served)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (s *server) served() wire.Served {
	return wire.Served{Bytes: s.sent.Load(), Requests: s.requests.Load(), Refused: s.refused.Load()}
}

// counted counts what is written, and gives up on a peer that takes nothing.
type counted struct {
	http.ResponseWriter
	deadlines *http.ResponseController
	sent      *atomic.Int64
}

func (c *counted) Write(b []byte) (int, error) {
	c.deadlines.SetWriteDeadline(time.Now().Add(sendTimeout)) //nolint:errcheck // the connection has ended
	n, err := c.ResponseWriter.Write(b)
	c.sent.Add(int64(n))
	return n, err
}
