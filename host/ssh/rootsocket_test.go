package ssh

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// carriers are the programs that open a socket, in the languages that this machine has. It has one at least, as Dial needs it.
func carriers(t *testing.T) map[string]func(socket string) *exec.Cmd {
	t.Helper()
	all := map[string]func(string) *exec.Cmd{}
	for language, argv := range map[string][]string{"perl": {"perl", "-e", carryPerl}, "python": {"python3", "-c", carryPython}} {
		if _, err := exec.LookPath(argv[0]); err == nil {
			all[language] = func(socket string) *exec.Cmd {
				return exec.CommandContext(t.Context(), argv[0], argv[1], argv[2], socket)
			}
		}
	}
	if len(all) == 0 {
		t.Fatal("there is neither perl nor python3")
	}
	return all
}

// listen is a socket whose connections are given to serve.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // it is a temporary folder
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return socket
}

// A peer that reads nothing until all that it sent was read is no dead end, and the end of input ends the program.
func TestSocketIsCarriedBothWaysAtOnce(t *testing.T) {
	data := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{1}).Read(data) //nolint:errcheck // it never fails
	ended := make(chan struct{}, len(carriers(t)))
	socket := listen(t, func(conn net.Conn) {
		conn.Write(data)                              //nolint:errcheck // what arrives tells
		io.CopyN(conn, conn, int64(len(data)))        //nolint:errcheck // likewise
		conn.SetDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // likewise
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			ended <- struct{}{}
		}
		conn.Close()
	})
	for language, program := range carriers(t) {
		t.Run(language, func(t *testing.T) {
			cmd := program(socket)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			go in.Write(data) //nolint:errcheck // what comes back tells
			want := append([]byte(connectedLine), bytes.Repeat(data, 2)...)
			got := make([]byte, len(want))
			if n, err := io.ReadFull(out, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes of %d, or others: %v", n, len(want), err)
			}
			in.Close()
			if rest, err := io.ReadAll(out); len(rest) > 0 || err != nil {
				t.Errorf("%d bytes more, %v", len(rest), err)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			<-ended
		})
	}
}

// The end of the connection ends the program, whose input goes on.
func TestSocketThatEnds(t *testing.T) {
	socket := listen(t, func(conn net.Conn) {
		io.WriteString(conn, "bye") //nolint:errcheck // what arrives tells
		conn.Close()
	})
	for language, program := range carriers(t) {
		t.Run(language, func(t *testing.T) {
			cmd := program(socket)
			if _, err := cmd.StdinPipe(); err != nil {
				t.Fatal(err)
			}
			out, err := cmd.Output()
			if err != nil || string(out) != connectedLine+"bye" {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
}

func TestSocketThatIsNotThere(t *testing.T) {
	for language, program := range carriers(t) {
		var said strings.Builder
		cmd := program(filepath.Join(t.TempDir(), "none"))
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err == nil || len(out) > 0 || said.String() != "No such file or directory\n" {
			t.Errorf("%s: %q, %q, %v", language, out, said.String(), err)
		}
	}
}
