package ssh

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSums(t *testing.T) {
	sum := strings.Repeat("0a", 32)
	tests := []struct {
		out  string
		n    int
		want []string // nil: an error
	}{
		{"", 0, []string{}},
		{sum + "  -\n-\n" + sum + "  -\n", 3, []string{sum, "", sum}},
		{"-\n", 2, nil},
		{"-\n-\n-\n", 2, nil},
		{"-", 1, nil},
		{"\n", 1, nil},
		{sum + "\n", 1, nil},
		{sum + " *-\n", 1, nil},
		{sum[2:] + "  -\n", 1, nil},
		{strings.ToUpper(sum) + "  -\n", 1, nil},
		{"zz" + sum[2:] + "  -\n", 1, nil},
	}
	for _, tt := range tests {
		got := make([]string, tt.n)
		err := parseSums([]byte(tt.out), got)
		if (err == nil) != (tt.want != nil) {
			t.Errorf("%q: error %v", tt.out, err)
		}
		if diff := cmp.Diff(tt.want, got); tt.want != nil && diff != "" {
			t.Errorf("%q:\n%s", tt.out, diff)
		}
	}
}

// FuzzParseSums: what is accepted is what sha256sum prints for these sums, and nothing else.
func FuzzParseSums(f *testing.F) {
	f.Add([]byte("-\n"), 1)
	f.Add([]byte(strings.Repeat("0a", 32)+"  -\n-\n"), 2)
	f.Fuzz(func(t *testing.T, out []byte, n int) {
		if n < 0 || n > 1000 {
			return
		}
		sums := make([]string, n)
		if parseSums(out, sums) != nil {
			return
		}
		var again strings.Builder
		for _, sum := range sums {
			if sum == "" {
				again.WriteString("-\n")
			} else {
				again.WriteString(sum + "  -\n")
			}
		}
		if again.String() != string(out) {
			t.Errorf("%q gave %q", out, sums)
		}
	})
}

func TestBatches(t *testing.T) {
	half := strings.Repeat("x", maxNames/2)
	tests := []struct {
		names []string
		sizes []int
	}{
		{nil, nil},
		{[]string{"/a"}, []int{1}},
		{[]string{"/a", "/b", "/c"}, []int{3}},
		{[]string{half, half, "/a", half}, []int{1, 2, 1}},
		{[]string{half + half, "/a"}, []int{1, 1}},
	}
	for i, tt := range tests {
		var sizes []int
		var all []string
		for batch := range batches(tt.names) {
			sizes, all = append(sizes, len(batch)), append(all, batch...)
		}
		if !slices.Equal(sizes, tt.sizes) || !slices.Equal(all, tt.names) {
			t.Errorf("%d: batches of %v, want %v", i, sizes, tt.sizes)
		}
	}
}

// FuzzErrorOutput: however the stream is cut into writes, the process id is found once and what follows is kept.
func FuzzErrorOutput(f *testing.F) {
	f.Add("noise\n", 12, "error\n", 3)
	f.Add("", 1, "myadm-pid 7\n", 1)
	f.Add("myadm-pid x\n", 1, strings.Repeat("x", 5000), 100)
	f.Fuzz(func(t *testing.T, noise string, pid int, text string, step int) {
		if pid < 1 || step < 1 || len(noise) > 2000 || strings.Contains(noise, pidMark) || noise != "" && !strings.HasSuffix(noise, "\n") {
			return
		}
		e := &errorOutput{pids: make(chan int, 1)}
		for rest := []byte(fmt.Sprintf("%s%s%d\n%s", noise, pidMark, pid, text)); len(rest) > 0; {
			n := min(step, len(rest))
			e.Write(rest[:n]) //nolint:errcheck // it never fails
			rest = rest[n:]
		}
		if got := <-e.pids; got != pid || !e.started() {
			t.Errorf("process id %d, want %d", got, pid)
		}
		if want := text[max(0, len(text)-4096):]; string(e.tail()) != want {
			t.Errorf("kept %q, want %q", e.tail(), want)
		}
	})
}
