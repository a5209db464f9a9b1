package kube_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
)

const secretPart = "hush0hush1hush22"

var now = time.Date(2026, 11, 22, 18, 0, 0, 0, time.FixedZone("", 3600))

func token(t *testing.T, s string) kube.Token {
	t.Helper()
	tok, err := kube.ParseToken(s)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestNewToken(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		tok, err := kube.NewToken(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if !bootstraputil.IsValidBootstrapToken(tok.Reveal()) || seen[tok.Reveal()] {
			t.Errorf("got %s", tok.Reveal())
		}
		seen[tok.Reveal()] = true
	}
	// 252 and up would favour some characters, and are left out.
	tok, err := kube.NewToken(io.MultiReader(bytes.NewReader([]byte{255, 252, 0, 35, 36, 251}), bytes.NewReader(make([]byte, 18))))
	if err != nil || tok.Reveal() != "0z0z00."+strings.Repeat("0", 16) {
		t.Errorf("got %s, %v", tok.Reveal(), err)
	}
	if _, err := kube.NewToken(strings.NewReader("short")); err == nil {
		t.Error("no error without randomness")
	}
}

func TestTokenHidesItsSecret(t *testing.T) {
	tok := token(t, "abcdef."+secretPart)
	encoded, err := json.Marshal(kube.TokenSpec{Token: tok})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprint(tok), fmt.Sprintf("%v %+v %#v %s %q", tok, tok, tok, tok, tok),
		fmt.Sprintf("%v %+v %#v", &tok, kube.TokenSpec{Token: tok}, []kube.Token{tok}), string(encoded),
	} {
		if strings.Contains(text, secretPart) || !strings.Contains(text, "abcdef") {
			t.Errorf("shown as %s", text)
		}
	}
	if _, err := kube.ParseToken("abcdef." + strings.ToUpper(secretPart)); err == nil || strings.Contains(strings.ToLower(err.Error()), secretPart) {
		t.Errorf("got %v", err)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("abcdef.0123456789abcdef")
	f.Add("abcdef.0123456789abcdef\n")
	f.Add("Abcdef.0123456789abcdef")
	f.Add(".")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := kube.ParseToken(s)
		if err == nil && tok.Reveal() != s {
			t.Errorf("%q became %q", s, tok.Reveal())
		}
	})
}

func TestTokenLife(t *testing.T) {
	s := kubetest.NewServer(t)
	c := s.Client(t, kube.Options{})
	spec := kube.TokenSpec{
		Token: token(t, "abcdef."+secretPart), TTL: kube.DefaultTokenTTL, Usages: kube.DefaultTokenUsages(),
		Groups: []string{kube.DefaultTokenGroup}, Description: "for the test",
	}
	if err := c.CreateToken(t.Context(), spec, now); err != nil {
		t.Fatal(err)
	}
	secret, err := kube.Get[corev1.Secret](t.Context(), c, kube.Ref{APIVersion: "v1", Kind: "Secret", Namespace: "kube-system", Name: "bootstrap-token-abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	data := map[string]string{}
	for k, v := range secret.Data {
		data[k] = string(v)
	}
	want := map[string]string{
		"token-id": "abcdef", "token-secret": secretPart, "expiration": "2026-11-23T17:00:00Z", "description": "for the test",
		"usage-bootstrap-signing": "true", "usage-bootstrap-authentication": "true",
		"auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
	}
	if d := cmp.Diff(want, data); d != "" || secret.Type != "bootstrap.kubernetes.io/token" {
		t.Errorf("type %s, data (-want +got):\n%s", secret.Type, d)
	}

	err = c.CreateToken(t.Context(), spec, now)
	if err == nil || !strings.Contains(err.Error(), "abcdef is there already") || strings.Contains(err.Error(), secretPart) {
		t.Errorf("created twice: %v", err)
	}

	list, err := kube.ListTokens(t.Context(), c)
	if err != nil || len(list) != 1 {
		t.Fatalf("got %v, %v", list, err)
	}
	got := list[0]
	if !got.Token.Equal(spec.Token) || got.Invalid != "" || got.Description != "for the test" || !got.Expires.Equal(now.Add(24*time.Hour)) {
		t.Errorf("got %+v", got)
	}
	if d := cmp.Diff([][]string{{"authentication", "signing"}, spec.Groups}, [][]string{got.Usages, got.Groups}); d != "" {
		t.Errorf("usages and groups (-want +got):\n%s", d)
	}
	if got.Expired(now.Add(24*time.Hour-time.Second)) || !got.Expired(now.Add(24*time.Hour)) {
		t.Error("expires at another time")
	}

	if err := c.DeleteToken(t.Context(), spec.Token.Reveal()); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteToken(t.Context(), "abcdef"); !kube.NotFound(err) {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestDeleteTokenRefuses(t *testing.T) {
	c := kubetest.NewServer(t).Client(t, kube.Options{})
	for _, arg := range []string{"", "ABCDEF", "abcdef.", "abcdef." + secretPart[:15], "../../../x"} {
		if err := c.DeleteToken(t.Context(), arg); err == nil || strings.Contains(err.Error(), secretPart[:15]) {
			t.Errorf("%q: %v", arg, err)
		}
	}
}

func TestTokenWithoutEnd(t *testing.T) {
	spec := kube.TokenSpec{Token: token(t, "abcdef."+secretPart), Usages: []string{"signing"}}
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	if v, set := spec.Secret(now).Data["expiration"]; set {
		t.Errorf("expires at %s", v)
	}
}

func TestTokenSpecValidate(t *testing.T) {
	for _, test := range []struct {
		want   string
		change func(*kube.TokenSpec)
	}{
		{"missing or malformed", func(s *kube.TokenSpec) { s.Token = kube.Token{} }},
		{"negative", func(s *kube.TokenSpec) { s.TTL = -time.Hour }},
		{"under a second", func(s *kube.TokenSpec) { s.TTL = time.Millisecond }},
		{"without usages", func(s *kube.TokenSpec) { s.Usages, s.Groups = nil, nil }},
		{"sign", func(s *kube.TokenSpec) { s.Usages = []string{"sign", "authentication"} }},
		{"system:masters", func(s *kube.TokenSpec) { s.Groups = []string{"system:masters"} }},
		{"only for tokens with the usage authentication", func(s *kube.TokenSpec) { s.Usages = []string{"signing"} }},
	} {
		spec := kube.TokenSpec{
			Token: token(t, "abcdef."+secretPart), TTL: time.Hour,
			Usages: kube.DefaultTokenUsages(), Groups: []string{kube.DefaultTokenGroup},
		}
		if err := spec.Validate(); err != nil {
			t.Fatal(err)
		}
		test.change(&spec)
		if err := spec.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v", test.want, err)
		}
	}
}

func TestListTokensNamesBadOnes(t *testing.T) {
	s := kubetest.NewServer(t)
	secret := func(name string, data ...string) {
		obj := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name},
			Type:       "bootstrap.kubernetes.io/token", Data: map[string][]byte{},
		}
		for i := 0; i < len(data); i += 2 {
			obj.Data[data[i]] = []byte(data[i+1])
		}
		s.Put(t, obj)
	}
	secret("bootstrap-token-aaaaaa", "token-id", "aaaaaa", "token-secret", secretPart)
	secret("bootstrap-token-bbbbbb", "token-secret", secretPart)
	secret("bootstrap-token-cccccc", "token-id", "dddddd", "token-secret", secretPart)
	secret("bootstrap-token-eeeeee", "token-id", "eeeeee", "token-secret", "shortandhush")
	secret("bootstrap-token-ffffff", "token-id", "ffffff", "token-secret", secretPart, "expiration", "tomorrow")
	secret("bootstrap-token-gggggg", "token-id", "gggggg", "token-secret", secretPart, "auth-extra-groups", "system:masters")
	s.Put(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "another"}, Type: "Opaque"})

	list, err := kube.ListTokens(t.Context(), s.Client(t, kube.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, info := range list {
		got = append(got, info.Token.ID+": "+info.Invalid)
	}
	want := []string{
		"aaaaaa: ",
		"bbbbbb: token-id is missing or malformed",
		"dddddd: the Secret is named bootstrap-token-cccccc, not bootstrap-token-dddddd",
		"eeeeee: token-secret is missing or malformed",
		"ffffff: expiration is not a time of RFC 3339",
		"gggggg: auth-extra-groups has a group that does not begin with system:bootstrappers:",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestTokenErrorsKeepTheSecret(t *testing.T) {
	s := kubetest.NewServer(t)
	s.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		kubetest.Fail(w, apierrors.NewBadRequest("no"))
		return true
	}
	c := s.Client(t, kube.Options{})
	spec := kube.TokenSpec{Token: token(t, "abcdef."+secretPart), Usages: []string{"signing"}}
	for name, err := range map[string]error{
		"create": c.CreateToken(t.Context(), spec, now),
		"delete": c.DeleteToken(t.Context(), spec.Token.Reveal()),
	} {
		if err == nil || strings.Contains(err.Error(), secretPart) || !strings.Contains(err.Error(), "abcdef") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
