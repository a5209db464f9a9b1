package ssh

import (
	"context"
	"errors"
	"sync"
)

// errNobody is the answer of a user who is not there.
var errNobody = errors.New("there is nobody to ask")

// answers remembers what the user was asked, so that one question is asked once for all hosts, and asks one question at a
// time.
type answers struct {
	prompt func(ctx context.Context, question string) ([]byte, error)
	asking chan struct{} // holds a token while the user is asked

	mu    sync.Mutex
	known map[string][]byte
}

func newAnswers(prompt func(context.Context, string) ([]byte, error)) *answers {
	return &answers{prompt: prompt, asking: make(chan struct{}, 1), known: map[string][]byte{}}
}

// ask gives the answer to a question. Errors are not remembered.
func (a *answers) ask(ctx context.Context, question string) ([]byte, error) {
	if a.prompt == nil {
		return nil, errNobody
	}
	select {
	case a.asking <- struct{}{}:
		defer func() { <-a.asking }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	a.mu.Lock()
	text, ok := a.known[question]
	a.mu.Unlock()
	if ok {
		return text, nil
	}
	text, err := a.prompt(ctx, question)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known[question] = text
	return text, nil
}

// forget drops a wrong answer, so that the question can be asked again. Only the answer that was wrong is dropped: by now
// another host may have got a better one.
func (a *answers) forget(question string, wrong []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if string(a.known[question]) == string(wrong) {
		delete(a.known, question)
	}
}
