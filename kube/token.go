package kube

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"
)

// The defaults of a token that hosts join with, as kubeadm has them.
const (
	DefaultTokenTTL   = 24 * time.Hour
	DefaultTokenGroup = "system:bootstrappers:kubeadm:default-node-token" // the RBAC rules for joining name this group
)

// DefaultTokenUsages are all there are: to sign cluster-info, and to log in.
func DefaultTokenUsages() []string { return slices.Clone(bootstrapapi.KnownTokenUsages) }

// Token is a bootstrap token: a public ID and a secret. Printed or logged it shows its ID only; Reveal is the way to all.
type Token struct {
	ID     string
	secret string
}

// Reveal returns the token as one writes it: ID.SECRET.
func (t Token) Reveal() string { return bootstraputil.TokenFromIDAndSecret(t.ID, t.secret) }

// String is the token without its secret.
func (t Token) String() string { return t.ID + ".***" }

// GoString keeps %#v from showing the secret.
func (t Token) GoString() string { return "kube.Token(" + t.String() + ")" }

// Equal compares in constant time.
func (t Token) Equal(o Token) bool {
	return t.ID == o.ID && subtle.ConstantTimeCompare([]byte(t.secret), []byte(o.secret)) == 1
}

// ParseToken reads ID.SECRET. Its errors do not quote what it was given.
func ParseToken(s string) (Token, error) {
	if !bootstraputil.IsValidBootstrapToken(s) {
		return Token{}, errors.New("not a bootstrap token; hint: it has the form abcdef.0123456789abcdef, lower-case letters and digits")
	}
	id, secret, _ := strings.Cut(s, ".")
	return Token{id, secret}, nil
}

// tokenChars are the characters of a token.
const tokenChars = "0123456789abcdefghijklmnopqrstuvwxyz"

// NewToken makes a token from a source of randomness, in general crypto/rand.Reader.
func NewToken(random io.Reader) (Token, error) {
	const length = bootstrapapi.BootstrapTokenIDBytes + bootstrapapi.BootstrapTokenSecretBytes
	const even = 256 / len(tokenChars) * len(tokenChars) // bytes from here on would favour the first characters
	var chars bytes.Buffer
	one := make([]byte, 1)
	for chars.Len() < length {
		if _, err := io.ReadFull(random, one); err != nil {
			return Token{}, fmt.Errorf("make a token: %w", err)
		}
		if int(one[0]) < even {
			chars.WriteByte(tokenChars[int(one[0])%len(tokenChars)])
		}
	}
	id, secret := chars.String()[:bootstrapapi.BootstrapTokenIDBytes], chars.String()[bootstrapapi.BootstrapTokenIDBytes:]
	return Token{id, secret}, nil
}

// TokenSpec describes a token that is to be made.
type TokenSpec struct {
	Token       Token
	TTL         time.Duration // 0: it never expires
	Usages      []string      // of "signing" and "authentication"
	Groups      []string      // in addition to system:bootstrappers; each begins with system:bootstrappers:
	Description string
}

// Validate returns everything that is wrong with the spec.
func (s TokenSpec) Validate() error {
	var errs []error
	if !bootstraputil.IsValidBootstrapToken(s.Token.Reveal()) {
		errs = append(errs, errors.New("the token itself is missing or malformed"))
	}
	if s.TTL < 0 {
		errs = append(errs, fmt.Errorf("ttl %s is negative; hint: 0 is a token that never expires", s.TTL))
	} else if s.TTL > 0 && s.TTL < time.Second {
		errs = append(errs, fmt.Errorf("ttl %s is under a second, the unit in which tokens expire", s.TTL))
	}
	if len(s.Usages) == 0 {
		errs = append(errs, errors.New("a token without usages is of no use; hint: signing, authentication"))
	}
	if err := bootstraputil.ValidateUsages(s.Usages); err != nil {
		errs = append(errs, err)
	}
	for _, group := range s.Groups {
		if err := bootstraputil.ValidateBootstrapGroupName(group); err != nil {
			errs = append(errs, err)
		}
	}
	if len(s.Groups) > 0 && !slices.Contains(s.Usages, "authentication") {
		errs = append(errs, errors.New("groups are only for tokens with the usage authentication"))
	}
	return errors.Join(errs...)
}

// Secret is the object that holds the token: kube-system/bootstrap-token-ID.
func (s TokenSpec) Secret(now time.Time) *corev1.Secret {
	data := map[string][]byte{
		bootstrapapi.BootstrapTokenIDKey:     []byte(s.Token.ID),
		bootstrapapi.BootstrapTokenSecretKey: []byte(s.Token.secret),
	}
	if s.TTL > 0 {
		data[bootstrapapi.BootstrapTokenExpirationKey] = []byte(now.Add(s.TTL).UTC().Format(time.RFC3339))
	}
	if s.Description != "" {
		data[bootstrapapi.BootstrapTokenDescriptionKey] = []byte(s.Description)
	}
	if len(s.Groups) > 0 {
		data[bootstrapapi.BootstrapTokenExtraGroupsKey] = []byte(strings.Join(s.Groups, ","))
	}
	for _, usage := range s.Usages {
		data[bootstrapapi.BootstrapTokenUsagePrefix+usage] = []byte("true")
	}
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: tokenSecretName(s.Token.ID)},
		Type:       bootstrapapi.SecretTypeBootstrapToken,
		Data:       data,
	}
}

func tokenSecretName(id string) string { return bootstraputil.BootstrapTokenSecretName(id) }

// CreateToken stores a token. now is when its TTL starts.
func (c *Client) CreateToken(ctx context.Context, spec TokenSpec, now time.Time) error {
	if err := spec.Validate(); err != nil {
		return fmt.Errorf("token %s: %w", spec.Token, err)
	}
	secret := spec.Secret(now)
	err := c.retry(ctx, func() error {
		_, err := c.Typed.CoreV1().Secrets(secret.Namespace).Create(ctx, secret, metav1.CreateOptions{FieldManager: FieldManager})
		return err
	})
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("a token with the ID %s is there already; hint: myadm token delete %s", spec.Token.ID, spec.Token.ID)
	}
	if err != nil {
		return fmt.Errorf("create token %s: %w", spec.Token, err)
	}
	return nil
}

// DeleteToken removes a token, given whole or by its ID. One that is not there gives an error for which NotFound is true:
// whoever revokes a token wants to know that it was the right one.
func (c *Client) DeleteToken(ctx context.Context, token string) error {
	id, _, _ := strings.Cut(token, ".")
	if !bootstraputil.IsValidBootstrapTokenID(id) || strings.Contains(token, ".") && !bootstraputil.IsValidBootstrapToken(token) {
		return errors.New("neither a bootstrap token nor the ID of one; hint: myadm token list shows the IDs")
	}
	var err error
	_ = c.retry(ctx, func() error {
		err = c.Typed.CoreV1().Secrets(metav1.NamespaceSystem).Delete(ctx, tokenSecretName(id), metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil // it will not appear by waiting
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete token %s: %w", id, err)
	}
	return nil
}
