package config

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/version"
)

// step takes documents of one version to the next. rewrite changes the tree of a document, whose root is a mapping, and
// nothing else: it sees neither files nor clusters. What it does not touch keeps its comments and its place. It leaves
// apiVersion alone, and fields that it does not expect: they are the loader's to refuse.
type step struct {
	from, to string // apiVersions
	rewrite  func(root *yaml.Node) error
}

// steps are all there are, oldest first; each begins where the one before ends, and the last ends at APIVersion. A change of
// the types that a released version's documents would not survive needs a new version and a step to it.
var steps = []step{}

// Migrate rewrites a Cluster document of an older version to APIVersion. Its comments and the order of its fields survive;
// indentation and blank lines become the encoder's. from is the version that the document has; when that is APIVersion, the
// result is data itself. The result is a document that Parse reads; errors are of type Errors.
func Migrate(name string, data []byte) (out []byte, from string, err error) {
	out, from, err = migrate(steps, APIVersion, name, data)
	if err != nil || from == APIVersion {
		return out, from, err
	}
	if _, err := Parse(name+" (migrated)", out); err != nil {
		return nil, from, err
	}
	return out, from, nil
}

// migrate is Migrate with any steps, without the look at the result.
func migrate(steps []step, newest, name string, data []byte) (out []byte, from string, err error) {
	if _, err := parseYAML(name, data); err != nil {
		return nil, "", err
	}
	docs, err := yamlDocuments(name, data)
	if err != nil {
		return nil, "", err
	}
	doc := docs[0]
	root := doc.Content[0]
	at := child(root, "apiVersion")
	kind := child(root, "kind")
	switch {
	case at == nil:
		return nil, "", documentError(name, root.Line, "apiVersion is missing", "write apiVersion: "+newest)
	case kind == nil || kind.Value != Kind:
		return nil, at.Value, documentError(name, root.Line, "the document is not a "+Kind, otherDocument(at.Value))
	}
	from = at.Value
	if from == newest {
		return data, from, nil
	}
	for _, s := range steps {
		if s.from != at.Value {
			continue
		}
		if err := s.rewrite(root); err != nil {
			return nil, from, fmt.Errorf("%s: from %s to %s: %w", name, s.from, s.to, err)
		}
		at.Value = s.to
	}
	if at.Value != newest {
		return nil, from, documentError(name, at.Line, fmt.Sprintf("apiVersion: %q is not a version that myadm knows", from), unknownVersion(from, newest))
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
		return nil, from, fmt.Errorf("encode the cluster document: %w", err)
	}
	return b.Bytes(), from, nil
}

// unknownVersion is the hint for a version that no step begins with.
func unknownVersion(have, newest string) string {
	haveGroup, haveVersion, _ := strings.Cut(have, "/")
	group, newestVersion, _ := strings.Cut(newest, "/")
	switch {
	case haveGroup != group:
		return otherDocument(have)
	case version.CompareKubeAwareVersionStrings(haveVersion, newestVersion) > 0:
		return "use a newer myadm: this one writes " + newest
	}
	return "this myadm knows versions up to " + newest + "; is it misspelt?"
}

// otherDocument is the hint for a document that is not a Cluster of ours.
func otherDocument(apiVersion string) string {
	if group, _, _ := strings.Cut(apiVersion, "/"); group == kubeadmGroup {
		return "`myadm config from-kubeadm` reads kubeadm's files"
	}
	return "`myadm config defaults` prints a whole document"
}

// child is the value of a mapping's field, or nil.
func child(mapping *yaml.Node, field string) *yaml.Node {
	if mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == field {
			return mapping.Content[i+1]
		}
	}
	return nil
}
