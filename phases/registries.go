package phases

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// Registries tells containerd of the document's registries, and takes away what an earlier document said of others.
// Containerd looks there at every pull, and need not be started anew. Without a document there are no hosts for it: what one
// has said stays. Nor has a runtime of the user's.
func Registries(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	if c.Config.Spec.Runtime.Type == config.RuntimeExisting || !c.Config.Described() {
		nodes = nil
	}
	return workflow.Phase{
		Name:  "registries",
		Short: "tell containerd of mirrors and credentials",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			changes, _, err := diffRegistries(ctx, c, r)
			return changes, err
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			changes, wanted, err := diffRegistries(ctx, c, h)
			if err != nil {
				return err
			}
			if err := writeChanged(ctx, h, wanted, changes); err != nil {
				return err
			}
			var gone, folders []string
			for _, change := range changes {
				if change.Action == workflow.Delete {
					gone, folders = append(gone, change.Object), append(folders, path.Dir(change.Object))
				}
			}
			if len(gone) == 0 {
				return nil
			}
			if err := h.Remove(ctx, gone...); err != nil {
				return err
			}
			return removeEmpty(ctx, h, append(slices.Compact(folders), manifests.RegistriesDir)...)
		},
	}
}

// diffRegistries compares what a host should be told of registries with what it was told by myadm.
func diffRegistries(ctx context.Context, c *cluster.Cluster, r host.Reader) ([]workflow.Change, []host.File, error) {
	wanted, err := registryFiles(c)
	if err != nil {
		return nil, nil, err
	}
	changes, err := diffFiles(ctx, r, wanted)
	if err != nil {
		return nil, nil, err
	}
	have, err := ourRegistries(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	var gone []workflow.Change
	for _, p := range have {
		if !slices.ContainsFunc(wanted, func(f host.File) bool { return f.Path == p }) {
			gone = append(gone, workflow.Change{Action: workflow.Delete, Object: p})
		}
	}
	err = ShowFiles(ctx, r, gone)
	return append(changes, gone...), wanted, err
}

// registryFiles reads the operator's files and renders what the document says of registries.
func registryFiles(c *cluster.Cluster) ([]host.File, error) {
	var all []host.File
	for i, r := range c.Config.Spec.Registries {
		field := fmt.Sprintf("spec.registries[%d]", i)
		ca, err := readOptional(r.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%s.caFile: %w", field, err)
		}
		var credentials manifests.Credentials
		data, err := readOptional(r.CredentialsFile)
		if err == nil && r.CredentialsFile != "" {
			credentials, err = manifests.ParseCredentials(data)
		}
		if err != nil {
			return nil, fmt.Errorf("%s.credentialsFile: %w", field, err)
		}
		files, err := manifests.RegistryFiles(r, ca, credentials)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		all = append(all, files...)
	}
	return all, nil
}

func readOptional(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	return os.ReadFile(file)
}

// ourRegistriesScript prints the files in the folders of the folder $1 that begin with the text $2.
const ourRegistriesScript = `
for f in "$1"/*/*; do
	[ -f "$f" ] && [ "$(head -c ${#2} "$f")" = "$2" ] && echo "$f"
done 2>/dev/null
true
`

// ourRegistries are the files by which containerd was told of registries by myadm.
func ourRegistries(ctx context.Context, r host.Reader) ([]string, error) {
	const dir = manifests.RegistriesDir
	out, err := r.Query(ctx, host.Command("sh", "-c", ourRegistriesScript, "sh", dir, manifests.MarkComment))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var paths []string
	for line := range strings.Lines(string(out)) {
		p := strings.TrimSuffix(line, "\n")
		if path.Dir(path.Dir(p)) == dir && host.CheckPath(p) == nil { // or else half of a name with a line break
			paths = append(paths, p)
		}
	}
	return paths, nil
}

// removeEmptyScript removes those of its arguments that are empty folders.
const removeEmptyScript = `
for d; do rmdir "$d" 2>/dev/null; done
true
`

func removeEmpty(ctx context.Context, h host.Host, folders ...string) error {
	if _, err := h.Run(ctx, host.Command(append([]string{"sh", "-c", removeEmptyScript, "sh"}, folders...)...)); err != nil {
		return fmt.Errorf("remove empty folders: %w", err)
	}
	return nil
}
