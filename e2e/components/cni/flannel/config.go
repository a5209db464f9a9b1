package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// config is the plugin's entry in a network configuration list.
type config struct {
	CNIVersion    string         `json:"cniVersion"`
	Name          string         `json:"name"`
	SubnetFile    string         `json:"subnetFile"`
	DataDir       string         `json:"dataDir"`
	Delegate      map[string]any `json:"delegate"`
	RuntimeConfig map[string]any `json:"runtimeConfig"`
	PrevResult    map[string]any `json:"prevResult"`
}

func parseConfig(data []byte) (*config, error) {
	c := &config{SubnetFile: "/run/flannel/subnet.env", DataDir: "/var/lib/cni/flannel"}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("network configuration: %w", err)
	}
	if t, set := c.Delegate["type"]; set {
		if name, ok := t.(string); !ok || name == "" {
			return nil, errors.New("network configuration: delegate.type is not a plugin's name")
		}
	}
	// Both come from flanneld; set here they would be dropped without a word.
	for _, key := range []string{"name", "ipam"} {
		if _, set := c.Delegate[key]; set {
			return nil, fmt.Errorf("network configuration: delegate.%s is set; hint: leave it out, the plugin fills it in", key)
		}
	}
	return c, nil
}

func (c *config) delegateType() string {
	if name, ok := c.Delegate["type"].(string); ok {
		return name
	}
	return "bridge"
}

// delegate completes the configured delegate with what flanneld decided: MTU, masquerading, addresses and the route to
// the whole pod network. What the user set stays, addresses excepted.
func (c *config) delegate(env *subnetEnv) ([]byte, error) {
	d := map[string]any{
		"mtu": env.mtu,
		// One of the two masquerades: flanneld, or else the bridge.
		"ipMasq": !env.ipMasq,
	}
	if c.delegateType() == "bridge" {
		d["isGateway"] = true
	}
	maps.Copy(d, c.Delegate)
	d["cniVersion"], d["name"], d["type"] = c.CNIVersion, c.Name, c.delegateType()
	if len(c.RuntimeConfig) > 0 {
		d["runtimeConfig"] = c.RuntimeConfig
	}
	var ranges [][]map[string]string
	for _, subnet := range env.subnets {
		ranges = append(ranges, []map[string]string{{"subnet": subnet}})
	}
	var routes []map[string]string
	for _, network := range env.networks {
		routes = append(routes, map[string]string{"dst": network})
	}
	d["ipam"] = map[string]any{"type": "host-local", "ranges": ranges, "routes": routes}
	return json.Marshal(d)
}
