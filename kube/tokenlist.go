package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"
)

// TokenInfo is a token as the cluster holds it.
type TokenInfo struct {
	Token       Token      // only the ID, if Invalid
	Expires     *time.Time // nil: never
	Usages      []string   // sorted
	Groups      []string
	Description string
	Invalid     string // why the cluster will not take it; empty for a sound one
}

// Expired tells whether the token's time is over. The cluster removes it a little later.
func (t TokenInfo) Expired(now time.Time) bool { return t.Expires != nil && !now.Before(*t.Expires) }

// ListTokens returns all bootstrap tokens, by ID. One that is malformed is in the list and says so in Invalid.
func ListTokens(ctx context.Context, r Reader) ([]TokenInfo, error) {
	secrets, err := List[corev1.Secret](ctx, r, Selector{
		APIVersion: "v1", Kind: "Secret", Namespace: metav1.NamespaceSystem,
		Fields: "type=" + string(bootstrapapi.SecretTypeBootstrapToken),
	})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	tokens := make([]TokenInfo, len(secrets))
	for i, secret := range secrets {
		tokens[i] = tokenInfo(secret)
	}
	slices.SortFunc(tokens, func(a, b TokenInfo) int { return strings.Compare(a.Token.ID, b.Token.ID) })
	return tokens, nil
}

// tokenInfo reads a token's Secret by the rules of the API server's authenticator and of the controllers: a wrong name, a
// missing part or an expiration that is no time make it invalid. What is wrong is said without the data.
func tokenInfo(secret *corev1.Secret) TokenInfo {
	value := func(key string) string { return string(secret.Data[key]) }
	info := TokenInfo{
		Token:       Token{ID: value(bootstrapapi.BootstrapTokenIDKey)},
		Description: value(bootstrapapi.BootstrapTokenDescriptionKey),
	}
	for _, usage := range bootstrapapi.KnownTokenUsages {
		if value(bootstrapapi.BootstrapTokenUsagePrefix+usage) == "true" {
			info.Usages = append(info.Usages, usage)
		}
	}
	slices.Sort(info.Usages)
	if groups := value(bootstrapapi.BootstrapTokenExtraGroupsKey); groups != "" {
		info.Groups = strings.Split(groups, ",")
	}
	named := strings.TrimPrefix(secret.Name, bootstrapapi.BootstrapTokenSecretPrefix)
	switch {
	case !bootstraputil.IsValidBootstrapTokenID(info.Token.ID):
		info.Token.ID = named
		info.Invalid = bootstrapapi.BootstrapTokenIDKey + " is missing or malformed"
		return info
	case secret.Name != tokenSecretName(info.Token.ID):
		info.Invalid = fmt.Sprintf("the Secret is named %s, not %s", secret.Name, tokenSecretName(info.Token.ID))
		return info
	}
	token, err := ParseToken(info.Token.ID + "." + value(bootstrapapi.BootstrapTokenSecretKey))
	if err != nil {
		info.Invalid = bootstrapapi.BootstrapTokenSecretKey + " is missing or malformed"
		return info
	}
	if text := value(bootstrapapi.BootstrapTokenExpirationKey); text != "" {
		expires, err := time.Parse(time.RFC3339, text)
		if err != nil {
			info.Invalid = bootstrapapi.BootstrapTokenExpirationKey + " is not a time of RFC 3339"
			return info
		}
		info.Expires = &expires
	}
	for _, group := range info.Groups {
		if bootstraputil.ValidateBootstrapGroupName(group) != nil {
			info.Invalid = bootstrapapi.BootstrapTokenExtraGroupsKey + " has a group that does not begin with " +
				bootstrapapi.BootstrapDefaultGroup + ":"
			return info
		}
	}
	info.Token = token
	return info
}
