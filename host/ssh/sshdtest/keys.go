package sshdtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

var errDenied = errors.New("key is not authorized")

// WriteKey writes a new private key to a file and returns its public half.
func WriteKey(t testing.TB, path string) ssh.PublicKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(pem.EncodeToMemory(block)), 0o600)
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return key.PublicKey()
}

func portOf(address string) int {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0
	}
	return n
}

// frozen is a connection that can be made silent.
type frozen struct {
	net.Conn
	mu     sync.Mutex
	closed bool
	still  chan struct{} // not nil: frozen, until it is closed
}

func (f *frozen) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.still == nil {
		f.still = make(chan struct{})
	}
}

func (f *frozen) thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.still != nil && !f.closed {
		close(f.still)
		f.closed = true
	}
}

func (f *frozen) wait() {
	f.mu.Lock()
	still := f.still
	f.mu.Unlock()
	if still != nil {
		<-still
	}
}

func (f *frozen) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	f.wait()
	return n, err
}

func (f *frozen) Write(b []byte) (int, error) {
	f.wait()
	return f.Conn.Write(b)
}
