package config

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DefaultDocument is a whole Cluster document: every field with its default or, after a "#" without a space, an example,
// and what it means. It can be loaded as it is.
//
//go:embed defaults.yaml
var DefaultDocument string

// Marshal writes c as YAML that Parse reads back, its fields in the order of the types, without those that are empty.
func Marshal(c *Cluster) ([]byte, error) {
	var plain bytes.Buffer
	enc := json.NewEncoder(&plain)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(c); err != nil {
		return nil, fmt.Errorf("encode the cluster document: %w", err)
	}
	// JSON is YAML, so its tree only needs another style. (sigs.k8s.io/yaml would sort the fields.)
	var tree yaml.Node
	if err := yaml.Unmarshal(plain.Bytes(), &tree); err != nil {
		return nil, fmt.Errorf("encode the cluster document: %w", err)
	}
	blockStyle(&tree)
	var out bytes.Buffer
	yamlEnc := yaml.NewEncoder(&out)
	yamlEnc.SetIndent(2)
	if err := yamlEnc.Encode(&tree); err != nil {
		return nil, fmt.Errorf("encode the cluster document: %w", err)
	}
	return out.Bytes(), nil
}

// blockStyle turns JSON's braces and quotes into lines and plain words. Text of several lines stays in quotes, where
// every blank is visible.
func blockStyle(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || !strings.ContainsAny(n.Value, "\n\r\t\u0085\u2028\u2029") {
		n.Style = 0
	}
	for _, child := range n.Content {
		blockStyle(child)
	}
}
