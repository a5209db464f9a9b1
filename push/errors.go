package push

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/myadm/myadm/fetch"
)

// describe is an error about an image, with what to do.
func (p *pusher) describe(ref string, err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("push %s: %w", ref, context.Canceled)
	}
	hint := ""
	if text := p.hint(err); text != "" && !strings.Contains(err.Error(), "; hint: ") {
		hint = "; hint: " + text
	}
	return fmt.Errorf("push %s: %w%s", ref, err, hint)
}

// hint is what a user can do about an error.
func (p *pusher) hint(err error) string {
	registry := p.target.registry.RegistryStr()
	var (
		answer *transport.Error
		dns    *net.DNSError
	)
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return "a registry without TLS is written http://" + p.target.Repository()
	case fetch.Untrusted(err):
		return "--ca-file names a file with the certificate authority of " + registry
	case errors.As(err, &dns):
		return "check the name, the network and HTTPS_PROXY"
	case !errors.As(err, &answer):
		return ""
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return registry + " wants other credentials; `docker login " + registry + "` writes them where myadm looks, --registry-config names another file"
	case http.StatusNotFound:
		return registry + " has no such place; make the project or folder in it first"
	}
	return "run the same command again: what is there is not sent again"
}
