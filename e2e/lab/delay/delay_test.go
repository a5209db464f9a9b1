package delay_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myadm/myadm/e2e/lab/delay"
)

const way = 50 * time.Millisecond

// line carries from one pipe to another and tells how it ended.
func line(ctx context.Context, d time.Duration) (near *io.PipeWriter, far *io.PipeReader, ended <-chan error) {
	from, near := io.Pipe()
	far, to := io.Pipe()
	end := make(chan error, 1)
	go func() {
		err := delay.Carry(ctx, to, from, d)
		to.CloseWithError(err)
		from.CloseWithError(err)
		end <- err
	}()
	return near, far, end
}

func TestWhatIsSaidComesOutLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, ended := line(t.Context(), way)
		began := time.Now()
		go func() {
			for _, word := range []string{"one", "two"} {
				near.Write([]byte(word)) //nolint:errcheck // the reader sees what is missing
				<-time.After(10 * time.Millisecond)
			}
			near.Close()
		}()
		b := make([]byte, 16)
		for i, want := range []string{"one", "two"} {
			n, err := far.Read(b)
			if err != nil || string(b[:n]) != want {
				t.Errorf("read %q, %v, want %q", b[:n], err, want)
			}
			if took, want := time.Since(began), way+time.Duration(i)*10*time.Millisecond; took != want {
				t.Errorf("%q came after %s, want %s", b[:n], took, want)
			}
		}
		if _, err := far.Read(b); err != io.EOF { //nolint:errorlint // a Reader's end is io.EOF itself
			t.Errorf("the end is %v", err)
		}
		if took := time.Since(began); took != way+20*time.Millisecond {
			t.Errorf("the end came after %s", took)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Bytes queue on the way: many take no longer than one.
func TestThroughputDoesNotFall(t *testing.T) {
	const size = 20 << 20
	for _, d := range []time.Duration{0, way} {
		t.Run(d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far, ended := line(t.Context(), d)
				began := time.Now()
				go func() {
					near.Write(make([]byte, size)) //nolint:errcheck // the reader sees what is missing
					near.Close()
				}()
				n, err := io.Copy(io.Discard, far)
				if n != size || err != nil {
					t.Errorf("%d bytes came, %v", n, err)
				}
				if took := time.Since(began); took != d {
					t.Errorf("they took %s, want %s", took, d)
				}
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A line that nobody reads from holds its sender up.
func TestALineHoldsOnlySoMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, ended := line(t.Context(), way)
		sent := 0
		go func() {
			for b := make([]byte, 32<<10); ; sent += len(b) {
				if _, err := near.Write(b); err != nil {
					return
				}
			}
		}()
		<-time.After(time.Hour) // of the bubble's clock
		synctest.Wait()
		if sent < 32<<20 || sent > 33<<20 {
			t.Errorf("%d bytes are on the line", sent)
		}
		far.Close()
		if err := <-ended; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("it ended with %v", err)
		}
	})
}

func TestHowALineEnds(t *testing.T) {
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		end  func(cancel context.CancelCauseFunc, near *io.PipeWriter, far *io.PipeReader)
		want error
	}{
		"the sender is lost": {func(_ context.CancelCauseFunc, near *io.PipeWriter, far *io.PipeReader) {
			go io.Copy(io.Discard, far) //nolint:errcheck // how the line ends is looked at
			near.CloseWithError(broken)
		}, broken},
		"the receiver is lost": {func(_ context.CancelCauseFunc, _ *io.PipeWriter, far *io.PipeReader) { far.CloseWithError(broken) }, broken},
		"it is told to stop":   {func(cancel context.CancelCauseFunc, _ *io.PipeWriter, _ *io.PipeReader) { cancel(broken) }, broken},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				near, far, ended := line(ctx, way)
				if _, err := near.Write([]byte("on its way")); err != nil {
					t.Fatal(err)
				}
				tt.end(cancel, near, far)
				if err := <-ended; !errors.Is(err, tt.want) {
					t.Errorf("it ended with %v", err)
				}
			})
		})
	}
}
