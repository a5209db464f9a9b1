package courier

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/courier/wire"
)

func TestPacked(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte("ELF")); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	embedded := fstest.MapFS{"programs/courier-arm64.gz": {Data: b.Bytes()}}
	if got, err := packed(embedded, "arm64"); err != nil || !bytes.Equal(got, b.Bytes()) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := packed(embedded, "amd64"); !errors.Is(err, ErrNotEmbedded) || !strings.Contains(err.Error(), "amd64; hint: ") {
		t.Errorf("%v", err)
	}
}

// What is embedded depends on how the test was built; for an architecture that is not ours it is nothing ever.
func TestProgram(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		program, err := Program(arch)
		if errors.Is(err, ErrNotEmbedded) {
			continue
		}
		if err != nil || !bytes.HasPrefix(program, []byte("\x7fELF")) {
			t.Errorf("%s: %.4q, %v", arch, program, err)
		}
	}
	if _, err := Program("s390x"); !errors.Is(err, ErrNotEmbedded) {
		t.Error(err)
	}
}

func TestCommand(t *testing.T) {
	request := &wire.Fetch{Blobs: []wire.Blob{{
		SHA256: strings.Repeat("0", 64), Path: "/a",
		Sources: []wire.Source{{URL: "https://a/b", Headers: map[string]string{"Authorization": "secret"}}},
	}}}
	cmd, end, err := Command("/run/courier", request)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/run/courier", "fetch"}, cmd.Argv); diff != "" {
		t.Error(diff)
	}
	got, err := wire.ReadRequest("fetch", cmd.Stdin)
	if diff := cmp.Diff(wire.Request(request), got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, cmd.Stdin)
		ended <- err
	}()
	select {
	case err := <-ended:
		t.Fatalf("standard input ends before its time: %v", err)
	default:
	}
	end()
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, _, err := Command("/run/courier", &wire.Fetch{}); err == nil || !strings.Contains(err.Error(), "no blob") {
		t.Error(err)
	}
}

func TestDecoder(t *testing.T) {
	const done = `{"done":{"received":1,"failed":0}}` + "\n"
	const served = `{"served":{"bytes":1,"requests":2,"refused":3}}` + "\n"
	for _, test := range []struct {
		name, in string
		events   int
		want     string // of the error; empty: the end
	}{
		{"done", served + done, 2, ""},
		{"without the last newline", served + strings.TrimSpace(done), 2, ""},
		{"with carriage returns", strings.ReplaceAll(done, "\n", "\r\n"), 1, ""},
		{"nothing", "", 0, "ended after 0 lines, without a last word: unexpected EOF; hint: "},
		{"cut off", served, 1, "ended after 1 lines"},
		{"in a line", served + done[:9], 1, "line 2, "},
		{"chatter", "Welcome!\n" + done, 0, "hint: something on the host prints"},
		{"an empty line", "\n" + done, 0, "line 1"},
		{"an unknown type", `{"news":{}}` + "\n", 0, `type of event "news"; hint: the program on the host is not of this build`},
		{"too long", `{"error":{"text":"` + strings.Repeat("x", wire.MaxLine), 0, "line 1 has more than 262144 bytes; hint: "},
		{"after the end", done + served, 1, "line 2, "},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := NewDecoder(iotest.OneByteReader(strings.NewReader(test.in)))
			n := 0
			var err error
			for ; err == nil; n++ {
				_, err = d.Next()
			}
			if n-1 != test.events {
				t.Errorf("%d events, want %d", n-1, test.events)
			}
			if (test.want == "") != errors.Is(err, io.EOF) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v; want %q", err, test.want)
			}
			if _, again := d.Next(); again != err { //nolint:errorlint // the very same
				t.Errorf("then %v", again)
			}
		})
	}
	broken := errors.New("broken")
	if _, err := NewDecoder(iotest.ErrReader(broken)).Next(); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte("{\"served\":{\"bytes\":1,\"requests\":2,\"refused\":3}}\n{\"done\":{\"received\":1,\"failed\":0}}\n"))
	f.Add([]byte("Welcome!\r\n\x1b[2J{\"done\":{}}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		d := NewDecoder(bytes.NewReader(in))
		for n := 0; ; n++ {
			e, err := d.Next()
			if (e == nil) != (err != nil) || n > len(in) {
				t.Fatalf("event %d: %#v, %v", n, e, err)
			}
			if err != nil {
				if text := err.Error(); len(text) > 2<<10 || strings.ContainsAny(text, "\x1b\x00\n") {
					t.Errorf("%q", text)
				}
				return
			}
		}
	})
}

func TestIdentity(t *testing.T) {
	id, err := NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewIdentity(time.Now())
	if err != nil || other.Token == id.Token || other.Pin == id.Pin || len(id.Token) < 20 {
		t.Errorf("%v, %v: two alike, or a short token", err, other.Pin)
	}
	pair, err := tls.X509KeyPair([]byte(id.Certificate), []byte(id.Key))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(pair.Certificate[0]); hex.EncodeToString(sum[:]) != id.Pin {
		t.Error("the pin is not the certificate's")
	}
	blob := strings.Repeat("0", 64)
	want := wire.Source{
		URL: "https://[fd00::1]:4000/sha256/" + blob, Pin: id.Pin, Headers: map[string]string{"Authorization": "Bearer " + id.Token},
	}
	if diff := cmp.Diff(want, id.Source("[fd00::1]:4000", blob)); diff != "" {
		t.Error(diff)
	}
	line, err := json.Marshal(id.Serve("[fd00::1]:0", map[string]string{blob: "/a"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wire.ReadRequest("serve", bytes.NewReader(line)); err != nil {
		t.Error(err)
	}
}
