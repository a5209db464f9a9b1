package ssh

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pkg/sftp"
)

// trip is how long a round trip takes on a slowLine, by the clock of a synctest bubble: what has taken n of it has taken
// n round trips, however slow the machine is.
const trip = 100 * time.Millisecond

// slowLine joins two ends, each of which reads what the other one has written half a trip before.
func slowLine(t *testing.T) (a, b io.ReadWriteCloser) {
	t.Helper()
	ab, ba := newDelay(), newDelay()
	return end{ba, ab}, end{ab, ba}
}

type end struct {
	*delay           // is read from
	out    io.Writer // is written to
}

func (e end) Write(b []byte) (int, error) { return e.out.Write(b) }

func (e end) Close() error { return e.out.(io.Closer).Close() }

// delay holds every write back for half a trip.
type delay struct {
	chunks chan chunk
	closed chan struct{}
	rest   []byte
}

type chunk struct {
	data []byte
	due  time.Time
}

func newDelay() *delay { return &delay{chunks: make(chan chunk, 1<<12), closed: make(chan struct{})} }

func (d *delay) Write(b []byte) (int, error) {
	d.chunks <- chunk{bytes.Clone(b), time.Now().Add(trip / 2)}
	return len(b), nil
}

func (d *delay) Read(b []byte) (int, error) {
	if len(d.rest) == 0 {
		select {
		case c := <-d.chunks:
			<-time.After(time.Until(c.due))
			d.rest = c.data
		case <-d.closed:
			return 0, io.EOF
		}
	}
	n := copy(b, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

func (d *delay) Close() error {
	select {
	case <-d.closed:
	default:
		close(d.closed)
	}
	return nil
}

func TestReadTakesTwoTrips(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name  string
		size  int
		trips time.Duration
	}{
		{"empty", 0, 2},
		{"small", 2 << 10, 2},
		{"a packet", packet, 2},
		{"more than a packet", packet + 1, 2},
		{"less than a window", window*packet - 1, 2},
		{"more than a window", (window+1)*packet + 1, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(dir, tt.name)
				want := bytes.Repeat([]byte("0123456"), tt.size/7+1)[:tt.size]
				if err := os.WriteFile(path, want, 0o600); err != nil {
					t.Fatal(err)
				}
				near, far := slowLine(t)
				server, err := sftp.NewServer(far, sftp.WithMaxTxPacket(packet))
				if err != nil {
					t.Fatal(err)
				}
				go server.Serve() //nolint:errcheck // it ends with its input
				client, err := sftp.NewClientPipe(near, near, sftp.MaxPacketUnchecked(packet), sftp.MaxConcurrentRequestsPerFile(maxRequests))
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				got, err := read(client, path)
				if took := time.Since(began); err != nil || !bytes.Equal(got, want) || took != tt.trips*trip {
					t.Errorf("%d bytes in %s, %v; want %d in %d trips", len(got), took, err, len(want), tt.trips)
				}
				<-time.After(trip) // the file is closed, which nobody has waited for
				near.Close()
				far.Close()
			})
		})
	}
}
