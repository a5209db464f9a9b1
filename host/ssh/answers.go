package ssh

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// errNobody is the answer of a user who is not there.
var errNobody = errors.New("there is nobody to ask")

// maxPassphrases is how often a passphrase is asked for before the key is given up.
const maxPassphrases = 3

// answers remembers what the user was asked, so that one question is asked once for all hosts, and asks one question at a
// time.
type answers struct {
	prompt func(ctx context.Context, question string) ([]byte, error)
	asking chan struct{} // holds a token while the user is asked

	known map[string][]byte

	unlocking chan struct{} // holds a token while a key is decrypted, which takes a while by design
	unlocked  map[string]unlocked
}

// unlocked is a key that was decrypted, or could not be.
type unlocked struct {
	key ssh.Signer
	err error
}

func newAnswers(prompt func(context.Context, string) ([]byte, error)) *answers {
	return &answers{
		prompt: prompt, asking: make(chan struct{}, 1), known: map[string][]byte{},
		unlocking: make(chan struct{}, 1), unlocked: map[string]unlocked{},
	}
}

// ask gives the answer to a question. Errors are not remembered.
func (a *answers) ask(ctx context.Context, question string) ([]byte, error) {
	if a.prompt == nil {
		return nil, errNobody
	}
	if err := take(ctx, a.asking); err != nil {
		return nil, err
	}
	defer func() { <-a.asking }()
	if text, ok := a.known[question]; ok {
		return text, nil
	}
	text, err := a.prompt(ctx, question)
	if err == nil {
		a.known[question] = text
	}
	return text, err
}

// unlock decrypts a private key, with the passphrase that the user gives. What came of it is remembered for all hosts.
func (a *answers) unlock(ctx context.Context, path string, data []byte) (ssh.Signer, error) {
	if err := take(ctx, a.unlocking); err != nil {
		return nil, err
	}
	defer func() { <-a.unlocking }()
	if u, ok := a.unlocked[path]; ok {
		return u.key, u.err
	}
	u := unlocked{err: errors.New("the passphrase is wrong")}
	for try := range maxPassphrases {
		question := fmt.Sprintf("passphrase for key %s (%d of %d): ", path, try+1, maxPassphrases)
		passphrase, err := a.ask(ctx, question)
		if err != nil {
			return nil, fmt.Errorf("passphrase: %w", err)
		}
		key, err := ssh.ParsePrivateKeyWithPassphrase(data, passphrase)
		if !errors.Is(err, x509.IncorrectPasswordError) {
			u = unlocked{key, err}
			break
		}
	}
	a.unlocked[path] = u
	return u.key, u.err
}

// take takes a turn, unless ctx ends before.
func take(ctx context.Context, turn chan<- struct{}) error {
	select {
	case turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
