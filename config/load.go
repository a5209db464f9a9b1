package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxDocument is the largest document that is read, in bytes: a thousand hosts need a quarter of it.
const maxDocument = 1 << 20

// Load reads the Cluster document at path; see Parse.
func Load(path string) (*Cluster, error) {
	data, err := ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the cluster document: %w", err)
	}
	return Parse(path, data)
}

// ReadFile reads the file of a document, and no more of it than shows that it is too large.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxDocument+1))
}

// Parse reads a Cluster document of YAML or JSON. name stands for it in errors, and relative paths in the document are
// taken from name's folder. Unknown fields, wrong types and keys that come twice are errors (of type Errors), each
// with its line; and so that all errors come at once, what else ValidateJoin has against such a document is among them. A field without a value (null) counts as not given.
//
// The result has no defaults and is not validated: flags may change it before SetDefaults and Validate.
func Parse(name string, data []byte) (*Cluster, error) {
	root, err := parseYAML(name, data)
	if err != nil {
		return nil, err
	}
	w := &walker{file: name, at: map[string]position{}, budget: maxNodes}
	if w.documentType(root); len(w.errs) > 0 {
		return nil, w.errs.err() // the fields of another kind of document would all be unknown
	}
	tree := w.value(root, reflect.TypeFor[Cluster](), "", 0)
	c, err := decode(tree)
	if len(w.errs) > 0 {
		if err == nil && !w.over {
			c.source = &source{file: name, at: w.at}
			w.errs = append(w.errs, w.errs.apartFrom(ValidateJoin(c))...)
		}
		return nil, w.errs.err()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c.source = &source{file: name, at: w.at}
	return c, c.resolvePaths(filepath.Dir(name))
}

// decode makes a Cluster of a document's plain values. What was in error among them is null, and so not given.
func decode(tree any) (*Cluster, error) {
	plain, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	c := &Cluster{}
	if err := json.Unmarshal(plain, c); err != nil {
		return nil, err
	}
	// JSON would have made every number a float64.
	root, _ := tree.(map[string]any)
	spec, _ := root["spec"].(map[string]any)
	c.Spec.Kubelet, _ = spec["kubelet"].(map[string]any)
	c.Spec.KubeProxy, _ = spec["kubeProxy"].(map[string]any)
	return c, nil
}

// parseYAML gives the root mapping of the only document in data.
func parseYAML(name string, data []byte) (*yaml.Node, error) {
	const whole = "`myadm config defaults` prints a whole "
	docs, err := yamlDocuments(name, data)
	if err != nil {
		return nil, err
	}
	if len(docs) == 0 {
		return nil, documentError(name, 0, "the document is empty", whole+"one")
	}
	root := docs[0].Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, documentError(name, root.Line, "the document is "+describe(root)+" and not a mapping", whole+"document")
	}
	if len(docs) > 1 {
		return nil, documentError(name, docs[1].Content[0].Line, "a second document starts here", "keep one Cluster in a file")
	}
	return root, nil
}

// yamlDocuments reads a stream of YAML documents, each a yaml.DocumentNode with one node in it, and leaves out those that
// are empty. Lines are counted from the start of the stream.
func yamlDocuments(name string, data []byte) ([]*yaml.Node, error) {
	if len(data) > maxDocument {
		return nil, documentError(name, 0, "the document is larger than 1 MiB", "is this the right file?")
	}
	if !utf8.Valid(data) {
		return nil, documentError(name, firstInvalidLine(data), "the text is not UTF-8", "save the file as UTF-8")
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var docs []*yaml.Node
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			line, message := yamlError(err)
			return nil, documentError(name, line, message, tabHint(data, line))
		}
		if n := doc.Content[0]; n.Kind != yaml.ScalarNode || n.ShortTag() != "!!null" { // nothing between two "---"
			docs = append(docs, &doc)
		}
	}
}

// documentError is about a line as a whole, or with line 0 about the file.
func documentError(name string, line int, message, hint string) error {
	return Errors{{File: name, Line: line, Column: min(line, 1), Message: message, Hint: hint}}
}

// yamlLine finds the line in the parser's messages.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// yamlError splits the parser's message into its line (0 when it has none) and its text.
func yamlError(err error) (line int, message string) {
	text := err.Error()
	m := yamlLine.FindStringSubmatch(text)
	if m == nil {
		return 0, "not YAML: " + text
	}
	line, _ = strconv.Atoi(m[1]) // "" gives 0
	return line, "not YAML: " + strings.TrimPrefix(text, m[0])
}

// tabHint explains the parser's dark message about a tab. It looks at the line before as well: for some errors the
// parser names the line after or before.
func tabHint(data []byte, line int) string {
	lines := bytes.Split(data, []byte("\n"))
	for i := max(line-2, 0); i < min(line+1, len(lines)); i++ {
		indent := lines[i][:len(lines[i])-len(bytes.TrimLeft(lines[i], " \t"))]
		if bytes.ContainsRune(indent, '\t') {
			return fmt.Sprintf("line %d is indented with a tab; YAML takes spaces only", i+1)
		}
	}
	return ""
}

// firstInvalidLine is the 1-based line of the first byte that is not UTF-8.
func firstInvalidLine(data []byte) int {
	line := 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == utf8.RuneError && size == 1 {
			break
		}
		if r == '\n' {
			line++
		}
		data = data[size:]
	}
	return line
}

// resolvePaths makes the document's relative paths relative to dir, and puts the home folder in place of "~".
func (c *Cluster) resolvePaths(dir string) error {
	var errs Errors
	c.eachPath(func(path string, p *string) {
		switch {
		case *p == "" || filepath.IsAbs(*p) || strings.Contains(*p, "://"): // a URL is Validate's to refuse
		case *p == "~" || strings.HasPrefix(*p, "~/"):
			home, err := os.UserHomeDir()
			if err != nil {
				errs = append(errs, c.source.place(FieldError{Path: path, Message: "~ has no meaning here: " + err.Error(), Hint: "write the path out"}))
				return
			}
			*p = filepath.Join(home, (*p)[1:])
		default:
			*p = filepath.Join(dir, *p)
		}
	})
	return errs.err()
}

// eachPath calls do with each field that names a file on the operator's machine.
func (c *Cluster) eachPath(do func(path string, p *string)) {
	for i := range c.Spec.Networking.Manifests {
		do(fmt.Sprintf("spec.networking.manifests[%d]", i), &c.Spec.Networking.Manifests[i])
	}
	for i := range c.Spec.Hosts {
		ssh := &c.Spec.Hosts[i].SSH
		do(fmt.Sprintf("spec.hosts[%d].ssh.keyFile", i), &ssh.KeyFile)
		do(fmt.Sprintf("spec.hosts[%d].ssh.sudoPasswordFile", i), &ssh.SudoPasswordFile)
	}
	for _, component := range c.components() {
		for i := range component.ExtraVolumes {
			do(fmt.Sprintf("%s.extraVolumes[%d].file", component.path, i), &component.ExtraVolumes[i].File)
		}
	}
	if e := c.Spec.Etcd.External; e != nil {
		do("spec.etcd.external.caFile", &e.CAFile)
		do("spec.etcd.external.certFile", &e.CertFile)
		do("spec.etcd.external.keyFile", &e.KeyFile)
	}
	do("spec.artifacts.bundle", &c.Spec.Artifacts.Bundle)
	do("spec.artifacts.caFile", &c.Spec.Artifacts.CAFile)
	do("spec.artifacts.credentialsFile", &c.Spec.Artifacts.CredentialsFile)
	do("spec.artifacts.signatures.roots", &c.Spec.Artifacts.Signatures.Roots)
	for i := range c.Spec.Registries {
		do(fmt.Sprintf("spec.registries[%d].caFile", i), &c.Spec.Registries[i].CAFile)
		do(fmt.Sprintf("spec.registries[%d].credentialsFile", i), &c.Spec.Registries[i].CredentialsFile)
	}
}
