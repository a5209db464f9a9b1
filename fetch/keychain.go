package fetch

import (
	"fmt"
	"os"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// KeychainFile reads credentials from a file in the form of docker's config.json. Where it names credential helpers, they
// are asked.
func KeychainFile(path string) (authn.Keychain, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	defer file.Close()
	parsed, err := config.LoadFromReader(file)
	if err != nil {
		return nil, fmt.Errorf("credentials %s: %w; hint: it is a file such as docker's config.json", path, err)
	}
	return keychain{parsed}, nil
}

type keychain struct{ file *configfile.ConfigFile }

// Resolve implements authn.Keychain: a repository's own credentials go before those of its registry.
func (k keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	for _, key := range []string{target.String(), target.RegistryStr()} {
		if key == name.DefaultRegistry {
			key = authn.DefaultAuthKey
		}
		known, err := k.file.GetAuthConfig(key)
		if err != nil {
			return nil, err
		}
		known.ServerAddress = "" // filled in always
		if known != (types.AuthConfig{}) {
			return authn.FromConfig(authn.AuthConfig{
				Username: known.Username, Password: known.Password, Auth: known.Auth,
				IdentityToken: known.IdentityToken, RegistryToken: known.RegistryToken,
			}), nil
		}
	}
	return authn.Anonymous, nil
}
