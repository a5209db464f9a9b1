package manifests

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/myadm/myadm/config"
)

// Credentials are those of a docker config.json, by host[:port].
type Credentials map[string]credential

// credential is an entry of auths. `docker login` writes the first field, or nothing where a helper keeps it.
// Source: https://pkg.go.dev/github.com/docker/cli/cli/config/types#AuthConfig
type credential struct {
	Auth          string `json:"auth"` // base64 of user:password
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// hubServers are what Docker Hub is called in a config.json, and where its images are.
var hubServers = []string{"index.docker.io", "registry-1.docker.io"}

// ParseCredentials reads a docker config.json. Entries for a part of a registry only are passed over. Its errors show
// nothing of the file.
func ParseCredentials(data []byte) (Credentials, error) {
	var file struct {
		Auths map[string]credential `json:"auths"`
	}
	if err := json.Unmarshal(data, &file); err != nil { // the error may quote what it found
		return nil, errors.New("it is not a docker config.json; hint: docker login writes one")
	}
	all := Credentials{}
	for _, server := range slices.Sorted(maps.Keys(file.Auths)) {
		c, bare := file.Auths[server], server
		if _, rest, isURL := strings.Cut(server, "://"); isURL {
			bare = rest
		}
		name, path, _ := strings.Cut(bare, "/")
		if path = strings.Trim(path, "/"); path != "" && path != "v1" && path != "v2" {
			continue
		}
		if name == config.DockerHub || slices.Contains(hubServers, name) {
			name = hubServers[1]
		}
		if _, twice := all[name]; !twice || name == server { // the entry that is named like the host wins
			all[name] = c
		}
	}
	if len(all) == 0 {
		return nil, errors.New("it holds no credentials; hint: docker login writes them, unless credsStore or credHelpers has it leave them to a program")
	}
	return all, nil
}

// Authorization is the header of that name for a host; empty when there is nothing for it.
func (all Credentials) Authorization(host string) (string, error) {
	c, ok := all[host]
	fail := func(why string) (string, error) {
		return "", fmt.Errorf("the credentials for %s %s; hint: a user and a password, or a token that serves as one, are needed", host, why)
	}
	switch {
	case !ok:
		return "", nil
	case c.RegistryToken != "":
		if strings.ContainsFunc(c.RegistryToken, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fail("are a token that fits no header")
		}
		return "Bearer " + c.RegistryToken, nil
	case c.IdentityToken != "":
		return fail("are an identity token, which containerd cannot be given")
	case c.Auth != "":
		plain, err := base64.StdEncoding.DecodeString(c.Auth)
		user, _, pair := strings.Cut(string(plain), ":")
		if err != nil || !pair || user == "" {
			return fail("are not the base64 of user:password")
		}
		return basic(string(plain)), nil
	case c.Username != "":
		return basic(c.Username + ":" + c.Password), nil
	}
	return fail("are kept by a program of this machine (credsStore)")
}

func basic(pair string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)) }
