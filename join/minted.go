package join

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/myadm/myadm/kube"
)

// minted is a token that myadm makes for one join, when the first host asks for it, and removes at its end.
type minted struct {
	client *kube.Client
	rand   io.Reader
	now    func() time.Time

	mu    sync.Mutex
	token kube.Token
	made  bool
}

// mintedTTL is how long such a token lives when myadm is killed before it can remove it.
const mintedTTL = 15 * time.Minute

func (m *minted) get(ctx context.Context) (kube.Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.made {
		return m.token, nil
	}
	token, err := kube.NewToken(m.rand)
	if err != nil {
		return kube.Token{}, err
	}
	spec := kube.TokenSpec{Token: token, TTL: mintedTTL, Usages: kube.DefaultTokenUsages(), Groups: []string{kube.DefaultTokenGroup}, Description: "made by myadm for one join"}
	if err := m.client.CreateToken(ctx, spec, m.now()); err != nil {
		return kube.Token{}, err
	}
	m.token, m.made = token, true
	return token, nil
}

func (m *minted) remove(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.made {
		return nil
	}
	m.made = false
	return m.client.DeleteToken(ctx, m.token.ID)
}
