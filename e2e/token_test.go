//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/e2e/lab"
)

// newToken is what token create -o json prints, listedToken what token list -o json prints of each.
type newToken struct {
	Token       string     `json:"token"`
	Expires     *time.Time `json:"expires"`
	JoinCommand string     `json:"joinCommand"`
}

type listedToken struct {
	ID          string     `json:"id"`
	Expires     *time.Time `json:"expires"`
	Usages      []string   `json:"usages"`
	Groups      []string   `json:"groups"`
	Description string     `json:"description"`
	Invalid     string     `json:"invalid"`
}

func (s *site) createToken(t *testing.T, args ...string) newToken {
	t.Helper()
	return decode[newToken](t, s.myadm(t, nil, append([]string{"token", "create", "-f", s.document, "-o", "json"}, args...)...).want(t, 0))
}

func (s *site) listTokens(t *testing.T) []listedToken {
	t.Helper()
	return decode[[]listedToken](t, s.myadm(t, nil, "token", "list", "-f", s.document, "-o", "json").want(t, 0))
}

// joinArgs are the arguments of the join command of a token, after the program's name.
func (n newToken) joinArgs(t *testing.T) []string {
	t.Helper()
	args := strings.Fields(n.JoinCommand)
	if len(args) != 7 || args[0] != "myadm" || args[1] != "join" {
		t.Fatalf("the join command has another form: %q", n.JoinCommand)
	}
	return args[1:]
}

func (s *site) testTokens(t *testing.T) {
	made := s.createToken(t, "--ttl", "1h", "--description", "for e2e")
	id, secret, _ := strings.Cut(made.Token, ".")
	if left := time.Until(*made.Expires); left < 59*time.Minute || left > time.Hour {
		t.Errorf("it expires in %s, want an hour", left)
	}
	object, err := s.api(t).CoreV1().Secrets("kube-system").Get(t.Context(), "bootstrap-token-"+id, metav1.GetOptions{})
	must(t, err)
	got := map[string]string{}
	for key, value := range object.Data {
		got[key] = string(value)
	}
	want := map[string]string{
		"token-id": id, "token-secret": secret, "description": "for e2e", "expiration": made.Expires.Format(time.RFC3339),
		"usage-bootstrap-signing": "true", "usage-bootstrap-authentication": "true",
		"auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
	}
	if diff := cmp.Diff(want, got); diff != "" || object.Type != corev1.SecretTypeBootstrapToken {
		t.Errorf("Secret of type %s (-want +got):\n%s", object.Type, diff)
	}

	list := s.myadm(t, nil, "token", "list", "-f", s.document).want(t, 0)
	if !strings.Contains(list.stdout, id) || !strings.Contains(list.stdout, "for e2e") || strings.Contains(list.stdout, secret) {
		t.Errorf("the list must have the id and the description, and not the secret: %s", list)
	}
	find := func() *listedToken {
		all := s.listTokens(t)
		if i := slices.IndexFunc(all, func(l listedToken) bool { return l.ID == id }); i >= 0 {
			return &all[i]
		}
		return nil
	}
	if l := find(); l == nil || l.Description != "for e2e" || l.Invalid != "" || !l.Expires.Equal(*made.Expires) {
		t.Errorf("token list -o json has %+v", l)
	}
	s.myadm(t, nil, "token", "delete", id, "-f", s.document).want(t, 0)
	if l := find(); l != nil {
		t.Errorf("it is still listed: %+v", l)
	}

	printed := s.myadm(t, nil, "token", "create", "--print-join-command", "--ttl", "10m", "-f", s.document).want(t, 0).stdout
	if !strings.HasPrefix(printed, "myadm join ") || !strings.Contains(printed, "--discovery-token-ca-cert-hash sha256:") || strings.Count(printed, "\n") != 1 {
		t.Errorf("the join command is %q", printed)
	}

	brief := s.createToken(t, "--ttl", "1s")
	s.waitExpired(t, brief)
}

// waitExpired waits until a token is of no use: the controller manager has removed it.
func (s *site) waitExpired(t *testing.T, token newToken) {
	t.Helper()
	id, _, _ := strings.Cut(token.Token, ".")
	client := s.api(t)
	eventually(t, time.Minute, "the token's end", func(ctx context.Context) error {
		_, err := client.CoreV1().Secrets("kube-system").Get(ctx, "bootstrap-token-"+id, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(fmt.Errorf("token %s is still there", id), err)
	})
}

// reach are the flags by which a host of the lab is reached without a document. The document pins host keys; here they
// come from known_hosts.
func (s *site) reach(t *testing.T, host, user string) []string {
	t.Helper()
	h, err := s.Host(host)
	must(t, err)
	return []string{"--host", user + "@" + h.Address.String(), "--ssh-key", s.Path(lab.KeyFile), "--known-hosts", s.Path(lab.KnownHosts)}
}
