package config

import "strings"

// position is a place in a document. by names a flag or a variable instead, when that gave the field.
type position struct {
	line, column int
	by           string
}

// source remembers where in a document each field stands, so that validation can name the line long after parsing.
type source struct {
	file string
	at   map[string]position // by path: spec.hosts[1].ssh.port
}

// Described reports whether c was read from a document, which then says all there is to say: what it leaves out is not to be.
func (c *Cluster) Described() bool { return c.source != nil && c.source.file != "" }

// GivenBy records that the field at path (spec.kubernetesVersion) comes from a flag or an environment variable and not
// from the file, so that errors name that instead of a line.
func (c *Cluster) GivenBy(by, path string) {
	if c.source == nil {
		c.source = &source{at: map[string]position{}}
	}
	c.source.at[path] = position{by: by}
}

// place fills in where e's field stands: its own line or, for a field that is not in the document, that of the nearest
// one around it.
func (s *source) place(e FieldError) FieldError {
	if s == nil {
		return e
	}
	e.File = s.file
	for path := e.Path; path != ""; path = parent(path) {
		at, ok := s.at[path]
		switch {
		case !ok:
			continue
		case at.by != "":
			e.File = at.by
		default:
			e.Line, e.Column = at.line, at.column
		}
		break
	}
	return e
}

// parent cuts the last field, index or key off a path.
func parent(path string) string {
	if strings.HasSuffix(path, "]") {
		return path[:max(strings.LastIndexByte(path, '['), 0)]
	}
	return path[:max(strings.LastIndexByte(path, '.'), 0)]
}
