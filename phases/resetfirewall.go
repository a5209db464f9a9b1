package phases

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"regexp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// filters are the kernel's packet filters that kube-proxy, flannel and the network plugins may have written to, by the
// prefix of their tools.
var filters = []string{"iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"}

// Firewall removes the rules of Kubernetes from the host's packet filters and leaves all others.
func Firewall(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	return workflow.Phase{
		Name:  "firewall",
		Short: "remove the packet filter's rules of Kubernetes",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			image, err := proxyImage(ctx, c, r)
			if err != nil || image == "" {
				return nil, err // without kube-proxy there was nobody to write rules
			}
			var changes []workflow.Change
			for _, filter := range filters {
				rules, err := saveRules(ctx, c, r, image, filter)
				if err != nil {
					return nil, err
				}
				if _, dropped := keepForeign(rules); dropped > 0 {
					changes = append(changes, workflow.Change{Action: workflow.Delete, Object: filter, Detail: fmt.Sprintf("%d rules", dropped)})
				}
			}
			tables, err := r.Query(ctx, inProxy(c, image, "nft", "list", "tables"))
			if err != nil {
				return nil, fmt.Errorf("list nft tables: %w", err)
			}
			for _, t := range proxyTables(tables) {
				changes = append(changes, workflow.Change{Action: workflow.Delete, Object: "nft table " + t})
			}
			return changes, nil
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			image, err := proxyImage(ctx, c, h)
			if err != nil {
				return err
			}
			for _, filter := range filters {
				if !hasObject(changes, filter) {
					continue
				}
				rules, err := saveRules(ctx, c, h, image, filter)
				if err != nil {
					return err
				}
				kept, _ := keepForeign(rules)
				// By a file: ctr does not pass on the end of its standard input.
				file := host.File{Path: keptRules, Mode: 0o600, Data: kept}
				if err := h.WriteFiles(ctx, file); err != nil {
					return err
				}
				if _, err := h.Run(ctx, inProxy(c, image, filter+"-restore", keptRules)); err != nil {
					return fmt.Errorf("write the rules of %s: %w", filter, err)
				}
				if err := h.Remove(ctx, keptRules); err != nil {
					return err
				}
			}
			for _, family := range []string{"ip kube-proxy", "ip6 kube-proxy"} {
				if !hasObject(changes, "nft table "+family) {
					continue
				}
				proto, name, _ := bytes.Cut([]byte(family), []byte(" "))
				if _, err := h.Run(ctx, inProxy(c, image, "nft", "delete", "table", string(proto), string(name))); err != nil {
					return fmt.Errorf("delete nft table %s: %w", family, err)
				}
			}
			return nil
		},
	}
}

// saveRules reads the rules of a filter. What a container prints can lose its end when it is over: then it is read again.
func saveRules(ctx context.Context, c *cluster.Cluster, r host.Reader, image, filter string) ([]byte, error) {
	for range 3 {
		rules, err := r.Query(ctx, inProxy(c, image, filter+"-save"))
		if err != nil {
			return nil, fmt.Errorf("read the rules of %s: %w", filter, err)
		}
		if wholeRules(rules) {
			return rules, nil
		}
	}
	return nil, fmt.Errorf("read the rules of %s: a table has no end each time; hint: run %s-save on the host", filter, filter)
}

// wholeRules tells whether every table that iptables-save prints has its end.
func wholeRules(rules []byte) bool {
	begun, ended := 0, 0
	for line := range bytes.Lines(rules) {
		switch {
		case bytes.HasPrefix(line, []byte("*")):
			begun++
		case bytes.Equal(line, []byte("COMMIT\n")):
			ended++
		}
	}
	return begun == ended
}

// keptRules holds, for a moment, the rules that stay, on the host and in the container that puts them back.
const keptRules = "/run/myadm-kept-rules"

// inProxy runs a command of kube-proxy's image in the host's network.
func inProxy(c *cluster.Cluster, image string, argv ...string) host.Cmd {
	args := []string{"run", "--rm", "--net-host", "--cap-add", "CAP_NET_ADMIN", "--cap-add", "CAP_NET_RAW",
		"--mount", "type=bind,src=/run,dst=/run,options=rbind:rw", image, "myadm-" + rand.Text()}
	return ctr(c, append(args, argv...)...)
}

// Kubernetes' chains, and rules that name one or were made by the network plugins, in the format of iptables-save.
var (
	ourChain = regexp.MustCompile(`^:(KUBE|CNI|FLANNEL)-`)
	ourRule  = regexp.MustCompile(`^-A (KUBE|CNI|FLANNEL)-| -[jg] (KUBE|CNI|FLANNEL)-|--comment "?flanneld|--comment "?kubernetes`)
)

// keepForeign takes the chains and rules of Kubernetes out of what iptables-save prints, and counts them. The rest is
// input for iptables-restore, which replaces whole tables.
func keepForeign(rules []byte) (kept []byte, dropped int) {
	for line := range bytes.Lines(rules) {
		if ourChain.Match(line) || ourRule.Match(line) {
			dropped++
			continue
		}
		kept = append(kept, line...)
	}
	return kept, dropped
}

var proxyTable = regexp.MustCompile(`(?m)^table (ip6? kube-proxy)$`)

// proxyTables finds kube-proxy's tables in what `nft list tables` prints.
func proxyTables(out []byte) []string {
	var tables []string
	for _, m := range proxyTable.FindAllSubmatch(out, -1) {
		tables = append(tables, string(m[1]))
	}
	return tables
}
