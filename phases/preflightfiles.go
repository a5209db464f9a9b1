package phases

import (
	"context"
	"path"
	"strings"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
)

// judgeFiles looks for the files that a new control plane's components need and that the document does not have. A host that
// joins without the document has no other way to them, and its kubelet would wait for them without a word. Where the static
// pods are there already nothing is judged: they were started with what they need.
func judgeFiles(ctx context.Context, c *cluster.Cluster, n *cluster.Node) ([]Finding, error) {
	if !n.Spec.HasRole(config.RoleControlPlane) {
		return nil, nil
	}
	paths := []string{manifests.StaticPodPath(manifests.APIServerName)}
	var fields []string // of the paths after the first
	for _, f := range c.Config.NeededFiles() {
		if !comesLater(f.Path) {
			paths, fields = append(paths, f.Path), append(fields, f.Field)
		}
	}
	if len(fields) == 0 {
		return nil, nil
	}
	infos, err := n.Stat(ctx, paths...)
	if err != nil || infos[0].Exists {
		return nil, err
	}
	var all []Finding
	for i, info := range infos[1:] {
		why := ""
		switch {
		case !info.Exists:
			why = "is not there"
		case info.Mode.IsDir():
			why = "is a folder and no file"
		default:
			continue
		}
		all = append(all, fatal(true, "File",
			"%s: %s %s, and without it the component does not start; hint: where a document has it (extraVolumes[].file), myadm apply -f, or join -f, with that document places it; else put it there",
			fields[i], info.Path, why)...)
	}
	return all, nil
}

// comesLater tells whether phases after preflight make a file: the PKI and kubeconfigs.
func comesLater(file string) bool {
	return strings.HasPrefix(file, config.PKIDir+"/") || path.Dir(file) == config.KubernetesDir && path.Ext(file) == ".conf"
}
