package fetch

import (
	"context"
	"fmt"
	"strings"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/release"
)

// Resolve is the version that a text stands for: itself (v1.37.2), or the one that is published for a label (stable,
// stable-1.37, latest-1.37). Labels move, so they are asked for every time. Whether myadm knows the version is
// release.Items' to say.
func (f *Fetcher) Resolve(ctx context.Context, text string) (string, error) {
	if _, err := config.ParseVersion(text); err == nil {
		return text, nil
	}
	label, err := config.ParseLabel(text)
	if err != nil {
		return "", fmt.Errorf("%q is neither a Kubernetes version nor a label; hint: use one such as %s, or stable, or stable-1.37", text, config.Newest)
	}
	u, err := f.address(release.LabelURL(label))
	if err != nil {
		return "", err
	}
	item := "the version of " + text
	data, _, err := f.small(ctx, request{item: item, client: f.files, url: u}, maxLabel)
	if err != nil {
		return "", f.describe(item, u, err)
	}
	version := strings.TrimSpace(string(data))
	if _, err := config.ParseVersion(version); err != nil || !label.Covers(version) {
		return "", f.describe(item, u, fmt.Errorf("%s is no version of %s", excerpt(version), text))
	}
	return version, nil
}
