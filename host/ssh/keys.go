package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// login gathers the keys for one attempt to log in. tried says what was offered, for the error message.
type login struct {
	ctx     context.Context // of Dial: the SSH library calls back without one
	r       *route
	answers *answers
	pause   func() (resume func()) // stops the clock of the attempt while the user types
	agent   net.Conn
	tried   []string
}

func (l *login) close() {
	if l.agent != nil {
		l.agent.Close()
	}
}

// signers are the keys in the order of ssh: those of the agent that are also named as files, the agent's others, and
// then files. Nothing is decrypted before the host has said that it knows the key.
func (l *login) signers() ([]ssh.Signer, error) {
	var files []ssh.Signer
	for _, path := range l.r.keyFiles {
		key, err := l.fileKey(path)
		if errors.Is(err, fs.ErrNotExist) && !l.r.keysOnly {
			continue // one of the usual places
		}
		if err != nil {
			l.tried = append(l.tried, err.Error())
			continue
		}
		files = append(files, key)
	}
	agents := l.agentKeys()
	var named, others []ssh.Signer
	for _, key := range agents {
		if slices.ContainsFunc(files, sameKey(key)) {
			named = append(named, key)
		} else if !l.r.keysOnly {
			others = append(others, key)
		}
	}
	files = slices.DeleteFunc(files, func(key ssh.Signer) bool {
		_, public := key.(publicOnly)
		return public || slices.ContainsFunc(named, sameKey(key))
	})
	all := slices.Concat(named, others, files)
	for i, key := range all {
		from := "key"
		if i < len(named)+len(others) {
			from = "agent's key"
		}
		l.tried = append(l.tried, from+" "+ssh.FingerprintSHA256(key.PublicKey()))
	}
	return all, nil
}

func sameKey(a ssh.Signer) func(ssh.Signer) bool {
	return func(b ssh.Signer) bool { return bytes.Equal(a.PublicKey().Marshal(), b.PublicKey().Marshal()) }
}

// agentKeys lists the agent's keys. An agent that does not answer has none: it is one way in among several.
func (l *login) agentKeys() []ssh.Signer {
	if l.r.agentSocket == "" || l.r.agentSocket == "none" {
		return nil
	}
	conn, err := (&net.Dialer{}).DialContext(l.ctx, "unix", l.r.agentSocket)
	if err != nil {
		l.tried = append(l.tried, fmt.Sprintf("agent: %v", err))
		return nil
	}
	l.agent = conn
	keys, err := agent.NewClient(conn).Signers()
	if err != nil {
		l.tried = append(l.tried, fmt.Sprintf("agent: %v", err))
	}
	return keys
}

// fileKey reads a private key, or a public one whose private half the agent has.
func (l *login) fileKey(path string) (ssh.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParsePrivateKey(data)
	if err == nil {
		return key, nil
	}
	if public, _, _, _, err := ssh.ParseAuthorizedKey(data); err == nil {
		return publicOnly{public}, nil
	}
	var encrypted *ssh.PassphraseMissingError
	if !errors.As(err, &encrypted) {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	locked := &lockedKey{login: l, path: path, data: data, public: encrypted.PublicKey}
	if locked.public == nil { // a PEM key; its public half is beside it, or nowhere
		if beside, err := l.fileKey(path + ".pub"); err == nil {
			locked.public = beside.PublicKey()
		} else if key, err := locked.unlock(); err == nil {
			return key, nil
		} else {
			return nil, err
		}
	}
	return locked, nil
}

// publicOnly is a key that only the agent can use.
type publicOnly struct{ key ssh.PublicKey }

func (k publicOnly) PublicKey() ssh.PublicKey { return k.key }

func (k publicOnly) Sign(io.Reader, []byte) (*ssh.Signature, error) {
	return nil, errors.New("the private key is in no file")
}

// lockedKey is an encrypted private key. The passphrase is asked for when the host wants a signature, and once for all
// hosts.
type lockedKey struct {
	*login
	path   string
	data   []byte
	public ssh.PublicKey
}

func (k *lockedKey) PublicKey() ssh.PublicKey { return k.public }

func (k *lockedKey) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	key, err := k.unlock()
	if err != nil {
		return nil, err
	}
	return key.Sign(rand, data)
}

// SignWithAlgorithm is for RSA keys, which sign with one of several hashes.
func (k *lockedKey) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	key, err := k.unlock()
	if err != nil {
		return nil, err
	}
	if key, ok := key.(ssh.AlgorithmSigner); ok {
		return key.SignWithAlgorithm(rand, data, algorithm)
	}
	return nil, fmt.Errorf("key %s does not sign with %s", k.path, algorithm)
}

// unlock puts an error among what was tried: the SSH library goes on with the next key and forgets it.
func (k *lockedKey) unlock() (ssh.Signer, error) {
	defer k.pause()()
	key, err := k.answers.unlock(k.ctx, k.path, k.data)
	if err != nil {
		err = fmt.Errorf("key %s: %w", k.path, err)
		k.tried = append(k.tried, err.Error())
	}
	return key, err
}
