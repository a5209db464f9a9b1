package fetch

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
	"github.com/myadm/myadm/signature"
	"github.com/myadm/myadm/signature/signaturetest"
)

var stranger = signature.Identity{Subject: "stranger@example.org", Issuer: "https://accounts.google.com"}

func newAuthority(t *testing.T) *signaturetest.Authority {
	t.Helper()
	a, err := signaturetest.New(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func rootsOf(t *testing.T, a *signaturetest.Authority) *signature.Roots {
	t.Helper()
	data, err := a.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	roots, err := signature.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

// signFile publishes the signature of the file that an item has just now.
func (w *world) signFile(t *testing.T, a *signaturetest.Authority, item release.Item, by signature.Identity) {
	t.Helper()
	sig, cert, err := a.SignFile(w.files[strings.TrimPrefix(item.File.URL, "https://")], by)
	if err != nil {
		t.Fatal(err)
	}
	w.files[strings.TrimPrefix(item.File.Signature.URL, "https://")] = sig
	w.files[strings.TrimPrefix(item.File.Signature.Certificate, "https://")] = cert
}

// signImage publishes the signature of what an item's tag stands for, or with an architecture of the manifest for it.
// With as, it is the signature of another digest.
func (w *world) signImage(t *testing.T, a *signaturetest.Authority, item release.Item, arch, as string, by signature.Identity) {
	t.Helper()
	server := httptest.NewServer(w.registry)
	defer server.Close()
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://")+"/"+item.Image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	tagged, err := remote.Get(ref)
	if err != nil {
		t.Fatal(err)
	}
	digest := tagged.Digest.String()
	if arch != "" {
		if digest, err = choose(tagged.Manifest, arch); err != nil {
			t.Fatal(err)
		}
	}
	of := digest
	if as != "" {
		of = as
	}
	repository, _, _ := strings.Cut(item.Image, ":")
	signed, err := a.SignImage(repository, of, by)
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{
		Layer: static.NewLayer(signed.Payload, signature.MediaType), Annotations: signed.Annotations,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref.Context().Tag(signature.Tag(digest)), image); err != nil {
		t.Fatal(err)
	}
}

// signAll signs what its makers sign, as they do.
func (w *world) signAll(t *testing.T, a *signaturetest.Authority, items []release.Item) {
	t.Helper()
	for _, item := range items {
		switch {
		case item.Signer == release.Signer{}:
		case item.Kind == bundle.KindBinary:
			w.signFile(t, a, item, signature.Identity(item.Signer))
		default:
			w.signImage(t, a, item, "", "", signature.Identity(item.Signer))
		}
	}
}

// TestSignatures: with everything as its makers have it, what they sign is verified, and a second run asks for nothing.
func TestSignatures(t *testing.T) {
	w, a, asked := newWorld(t), newAuthority(t), items(t)
	w.pushImages(t, asked)
	w.signAll(t, a, asked)
	o := Options{Mirror: serve(t, w), CacheDir: t.TempDir(), Signatures: Signatures{Roots: rootsOf(t, a), Required: true}}
	for run := range 2 {
		f := open(t, o)
		got, err := f.Get(t.Context(), asked)
		if err != nil {
			t.Fatal(err)
		}
		checkGot(t, f, got, asked)
		proofs := map[string]Proof{}
		for _, v := range f.Verified() {
			proofs[v.Item.Name] = v.Proof
		}
		for name, want := range map[string]Proof{
			"kubelet": BySignature, "kubectl": BySignature, "kube-apiserver": BySignature, "coredns": BySignature, "pause": BySignature,
			"containerd": ByChecksum, "runc": ByChecksum, "flannel": ByChecksum, "haproxy": ByChecksum,
		} {
			if proofs[name] != want {
				t.Errorf("%s: %q, want %q", name, proofs[name], want)
			}
		}
		if taken := w.taken(); run > 0 && len(taken) > 0 {
			t.Errorf("the second run took %v", taken)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f := open(t, Options{Mirror: o.Mirror})
	if _, err := f.Get(t.Context(), items(t, "kubelet")); err != nil || len(f.Verified()) > 0 {
		t.Errorf("without roots: %v, %v", f.Verified(), err)
	}
	for key := range w.taken() {
		if strings.HasSuffix(key, ".sig") || strings.HasSuffix(key, ".cert") {
			t.Errorf("without roots, %s was asked for", key)
		}
	}
}

// TestSignatureFaults: each on a mirror that is otherwise right. What is refused is got, from the same cache, once the
// mirror is put right.
func TestSignatureFaults(t *testing.T) {
	const url = "dl.k8s.io/release/" + version + "/bin/linux/amd64/kubelet"
	other := []byte("another kubelet")
	type state struct {
		*testing.T
		w *world
		a *signaturetest.Authority
	}
	file := func(name, text string) func(state, release.Item) {
		return func(s state, _ release.Item) { s.w.files[url+name] = []byte(text) }
	}
	gone := func(names ...string) func(state, release.Item) {
		return func(s state, _ release.Item) {
			for _, name := range names {
				delete(s.w.files, url+name)
			}
		}
	}
	for _, tt := range []struct {
		name, item string
		fault      func(s state, item release.Item)
		signatures Signatures
		want       []string // of the error; none: it is got
		proof      Proof
	}{
		{name: "the file and its checksum are others", item: "kubelet", fault: func(s state, item release.Item) { s.w.publish(item, other) }, want: []string{
			"fetch kubelet v1.37.2 (amd64): ", url + ".sig: the signature is not one of this content"}},
		{name: "another signer", item: "kubelet", fault: func(s state, item release.Item) { s.w.signFile(s.T, s.a, item, stranger) },
			want: []string{"fetch kubelet", "it was signed by stranger@example.org (by https://accounts.google.com), not by krel-staging@"}},
		{name: "another signer that is wanted", item: "kubelet", fault: func(s state, item release.Item) { s.w.signFile(s.T, s.a, item, stranger) },
			signatures: Signatures{Subject: stranger.Subject}, proof: BySignature},
		{name: "another authority", item: "kubelet", fault: func(s state, item release.Item) {
			s.w.signFile(s.T, newAuthority(s.T), item, signature.Identity(item.Signer))
		}, want: []string{"fetch kubelet", "of no authority that is trusted"}},
		{name: "a page for a signature", item: "kubelet", fault: file(".sig", "<html>log in</html>"), want: []string{"fetch kubelet", "not one in base64"}},
		{name: "a page for a certificate", item: "kubelet", fault: file(".cert", "<html>log in</html>"), want: []string{"fetch kubelet", "not one in PEM"}},
		{name: "no signature", item: "kubelet", fault: gone(".sig"), proof: Unsigned},
		{name: "no certificate", item: "kubelet", fault: gone(".cert"), proof: Unsigned},
		{name: "no signature where one is required", item: "kubelet", fault: gone(".sig", ".cert"), signatures: Signatures{Required: true},
			want: []string{"fetch kubelet v1.37.2 (amd64): ", "there is no signature, and it must have one", "a mirror must have that, too"}},
		{name: "signature out of order", item: "kubelet", fault: func(s state, _ release.Item) {
			s.w.fault(url+".sig", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusForbidden) })
		}, want: []string{"fetch the signature of kubelet v1.37.2 (amd64)", "403"}},
		{name: "no signature of an image", item: "pause", proof: Unsigned},
		{name: "no signature of an image where one is required", item: "pause", signatures: Signatures{Required: true},
			want: []string{"fetch pause", "there is no signature, and it must have one"}},
		{name: "an image signed for its platform alone", item: "pause", signatures: Signatures{Required: true}, fault: func(s state, item release.Item) {
			s.w.signImage(s.T, s.a, item, "amd64", "", signature.Identity(item.Signer))
		}, proof: BySignature},
		{name: "an image signed for another platform", item: "pause", signatures: Signatures{Required: true}, fault: func(s state, item release.Item) {
			s.w.signImage(s.T, s.a, item, "arm64", "", signature.Identity(item.Signer))
		}, want: []string{"there is no signature, and it must have one"}},
		{name: "the signature of another image", item: "pause", fault: func(s state, item release.Item) {
			s.w.signImage(s.T, s.a, item, "", "sha256:"+sum(other), signature.Identity(item.Signer))
		}, want: []string{"fetch pause", `it is the signature of "sha256:` + sum(other)}},
		{name: "an image of another signer", item: "pause", fault: func(s state, item release.Item) { s.w.signImage(s.T, s.a, item, "", "", stranger) },
			want: []string{"fetch pause", "it was signed by stranger@example.org", "not by krel-trust@"}},
		{name: "an image with a right and a wrong one", item: "pause", fault: func(s state, item release.Item) {
			s.w.signImage(s.T, s.a, item, "", "", stranger)
			s.w.signImage(s.T, s.a, item, "amd64", "", signature.Identity(item.Signer))
		}, want: []string{"it was signed by stranger@example.org"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := state{t, newWorld(t), newAuthority(t)}
			asked := items(t, tt.item)
			s.w.pushImages(t, asked)
			if asked[0].Kind == bundle.KindBinary {
				s.w.signAll(t, s.a, asked)
			}
			if tt.fault != nil {
				tt.fault(s, asked[0])
			}
			tt.signatures.Roots = rootsOf(t, s.a)
			f := open(t, Options{Mirror: serve(t, s.w), Signatures: tt.signatures})
			_, err := f.Get(t.Context(), asked)
			if len(tt.want) == 0 {
				if got := f.Verified(); err != nil || len(got) != 1 || got[0].Proof != tt.proof {
					t.Errorf("%v, %v; want %q", got, err, tt.proof)
				}
				return
			}
			for _, want := range append(tt.want, "; hint: ") {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
			if err != nil && strings.Count(err.Error(), "; hint: ") != 1 {
				t.Errorf("several hints: %v", err)
			}
			if n := blobBytes(s.w.taken()); n > 1000 { // what the signature of an image is of has some hundreds
				t.Errorf("%d bytes of what was refused were fetched", n)
			}
			if _, ok := f.cache.find(sum(other)); ok {
				t.Error("what was refused is in the cache")
			}
			if len(f.Verified()) > 0 {
				t.Errorf("it is said to be verified: %v", f.Verified())
			}
			s.w.fault(url+".sig", nil)
			if tt.item == "kubelet" {
				s.w.publish(asked[0], content(asked[0].String()))
			} else {
				s.w.pushImages(t, asked) // new ones, under the same tags
			}
			s.w.signAll(t, s.a, asked)
			got, err := f.Get(t.Context(), asked)
			if err != nil {
				t.Fatal("after it was put right:", err)
			}
			checkGot(t, f, got, asked)
		})
	}
}

// TestSignatureOfWhatIsThere: what an earlier run without roots has brought into the cache is not believed for that.
func TestSignatureOfWhatIsThere(t *testing.T) {
	w, a, asked := newWorld(t), newAuthority(t), items(t, "kubelet", "pause")
	w.pushImages(t, asked)
	w.signAll(t, a, asked[1:])
	w.publish(asked[0], bytes.Repeat([]byte("x"), 1000))
	o := Options{Mirror: serve(t, w), CacheDir: t.TempDir()}
	f := open(t, o)
	if _, err := f.Get(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w.publish(asked[0], content(asked[0].String()))
	w.signFile(t, a, asked[0], signature.Identity(asked[0].Signer))
	o.Signatures.Roots = rootsOf(t, a)
	f = open(t, o)
	if _, err := f.Get(t.Context(), asked); err == nil || !strings.Contains(err.Error(), "not one of this content") {
		t.Fatal(err)
	}
	got, err := f.Get(t.Context(), asked) // the checksum was asked for anew
	if err != nil {
		t.Fatal(err)
	}
	checkGot(t, f, got, asked)
	if all := f.Verified(); len(all) != 2 || all[0].Proof != BySignature || all[1].Proof != BySignature {
		t.Error(fmt.Sprint(all))
	}
}
