package wire_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/courier/wire"
)

const serveLine = `{"address":"a:1","certificate":"c","key":"k","token":"t","blobs":null}`

var offerLine = `{"blobs":{"` + hexSum + `":"/a"}}`

// Offers follow a request in whatever pieces they come, and are there before anything comes after them.
func TestOffers(t *testing.T) {
	r, w := io.Pipe()
	go io.WriteString(w, serveLine+"\n"+offerLine+"\n"+offerLine) //nolint:errcheck // the test sees what arrives
	in := wire.NewInput(r)
	if _, err := in.Request("serve"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		o, err := in.Offer()
		if diff := cmp.Diff(wire.Offer{Blobs: map[string]string{hexSum: "/a"}}, o); diff != "" || err != nil {
			t.Fatalf("%v\n%s", err, diff)
		}
	}
	w.Close()
	if o, err := in.Offer(); !errors.Is(err, io.EOF) {
		t.Errorf("%v, %v", o, err)
	}
}

func TestOfferRefused(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{`x`, "offer on standard input: invalid character"},
		{`[]`, "cannot unmarshal array"},
		{`{"blob":{}}`, "unknown field"},
		{offerLine[:20], "unexpected EOF"},
		{`{"blobs":{"` + hexSum + `":"a"}}`, `offer: blob ` + hexSum + `: path "a" is not absolute and clean`},
		{`{"blobs":{"x":"/a"}}`, `offer: "x" is not a SHA-256`},
		{`{"blobs":{"` + strings.Repeat("x", 2*wire.MaxRequest) + `":"/a"}}`, "unexpected EOF"},
	} {
		in := wire.NewInput(strings.NewReader(serveLine + "\n" + test.in))
		if _, err := in.Request("serve"); err != nil {
			t.Fatal(err)
		}
		if o, err := in.Offer(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.40s: %v, %v; want %s", test.in, o, err, test.want)
		}
	}
}

// FuzzOffers: whatever follows a request, an offer that is returned is right, and the rest comes to an end.
func FuzzOffers(f *testing.F) {
	f.Add([]byte(offerLine + "\n" + offerLine))
	f.Add([]byte(`{"blobs":{"../../etc":"/a"}}`))
	f.Add([]byte("{}\n\n{}{}null"))
	f.Fuzz(func(t *testing.T, line []byte) {
		in := wire.NewInput(io.MultiReader(strings.NewReader(serveLine), strings.NewReader(string(line))))
		if _, err := in.Request("serve"); err != nil {
			t.Fatal(err)
		}
		for n := 0; ; n++ {
			o, err := in.Offer()
			if err != nil {
				return
			}
			if err := o.Check(); err != nil || n > len(line) {
				t.Fatalf("offer %d: %v, %v", n, o, err)
			}
		}
	})
}
