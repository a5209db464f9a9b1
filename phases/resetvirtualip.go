package phases

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// VirtualIP has a host give up the virtual IP of the API servers. keepalived hands it over when it is asked to end; killed,
// it would leave the address on the interface, and the others in wait. The kubelet, which is stopped by then, starts it no
// more.
func VirtualIP(nodes []*cluster.Node) workflow.Phase {
	return workflow.Phase{
		Name:  "virtual-ip",
		Short: "give up the virtual IP",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			v, err := readVirtualIP(ctx, r)
			if err != nil || !v.address.IsValid() {
				return nil, err
			}
			var changes []workflow.Change
			if v.running {
				changes = append(changes, workflow.Change{Action: workflow.Run, Object: manifests.KeepalivedName, Detail: "end it"})
			}
			if v.present {
				changes = append(changes, workflow.Change{Action: workflow.Delete, Object: "address " + v.address.String(), Detail: v.nic})
			}
			return changes, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			if err := endKeepalived(ctx, h); err != nil {
				return err
			}
			v, err := readVirtualIP(ctx, h)
			if err != nil || !v.present {
				return err
			}
			// It was killed before it could take the address away.
			if _, err := h.Run(ctx, host.Command("ip", "address", "delete", v.address.String(), "dev", v.nic)); err != nil {
				return fmt.Errorf("remove address %s from %s: %w", v.address, v.nic, err)
			}
			return nil
		},
	}
}

// virtualIP is the address that a host has now and then, and what is with it.
type virtualIP struct {
	address netip.Prefix // the zero Prefix: the host takes no part
	nic     string
	present bool // on the host
	running bool // keepalived
}

// readVirtualIP asks a host. Which address it is, its configuration says, whatever the document does.
func readVirtualIP(ctx context.Context, r host.Reader) (virtualIP, error) {
	conf, err := r.ReadFile(ctx, manifests.KeepalivedConfigPath)
	if errors.Is(err, fs.ErrNotExist) {
		return virtualIP{}, nil
	}
	if err != nil {
		return virtualIP{}, err
	}
	v, ok := parseVirtualIP(conf)
	if !ok {
		return virtualIP{}, nil
	}
	out, err := r.Query(ctx, host.Command("sh", "-c", virtualIPScript, "sh", manifests.KeepalivedConfigPath, v.address.Addr().String(), v.nic))
	if err != nil {
		return virtualIP{}, fmt.Errorf("look for the virtual IP: %w", err)
	}
	for name := range answer(out) {
		v.present = v.present || name == "present"
		v.running = v.running || name == "running"
	}
	return v, nil
}

// virtualAddress is the line of keepalived's configuration that names the address.
var virtualAddress = regexp.MustCompile(`(?m)^\s*([0-9A-Fa-f:.]+/[0-9]+) dev ([A-Za-z0-9_][A-Za-z0-9_.:@-]{0,14})$`)

// parseVirtualIP finds the address and its network interface in keepalived's configuration, where that is one of ours.
func parseVirtualIP(conf []byte) (virtualIP, bool) {
	if !manifests.Marked(conf) {
		return virtualIP{}, false
	}
	found := virtualAddress.FindSubmatch(conf)
	if found == nil {
		return virtualIP{}, false
	}
	address, err := netip.ParsePrefix(string(found[1]))
	return virtualIP{address: address, nic: string(found[2])}, err == nil && address.IsSingleIP()
}

// virtualIPScript tells whether keepalived runs by the configuration $1, and whether the address $2 is on the interface $3.
const virtualIPScript = keepalivedRuns + `
[ -n "$(all)" ] && echo running=
ip -oneline address show dev "$3" 2>/dev/null | grep -qF " $2/" && echo present=
true
`
