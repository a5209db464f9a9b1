package config

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
)

// comments are what the source says of types (by "Type") and fields ("Type.Field"), of each package that was asked for.
type comments map[string]map[string]string

// of gives the comment of a type, or of one of its fields: the one behind the field, or else the one above it.
func (c comments) of(t reflect.Type, field string) (string, error) {
	pkg := t.PkgPath()
	if c[pkg] == nil {
		texts, err := packageComments(pkg)
		if err != nil {
			return "", fmt.Errorf("read the comments of %s: %w", pkg, err)
		}
		c[pkg] = texts
	}
	if field == "" {
		return c[pkg][t.Name()], nil
	}
	return c[pkg][t.Name()+"."+field], nil
}

func packageComments(pkg string) (map[string]string, error) {
	p, err := build.Import(pkg, ".", build.FindOnly)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range tree.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE {
				for _, s := range g.Specs {
					typeComments(g, s.(*ast.TypeSpec), out)
				}
			}
		}
	}
	return out, nil
}

func typeComments(g *ast.GenDecl, s *ast.TypeSpec, into map[string]string) {
	doc := s.Doc
	if doc == nil {
		doc = g.Doc
	}
	into[s.Name.Name] = prose(doc)
	fields, ok := s.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range fields.Fields.List {
		text := prose(f.Comment)
		if text == "" {
			text = prose(f.Doc)
		}
		for _, name := range f.Names {
			into[s.Name.Name+"."+name.Name] = text
		}
	}
}

// prose is a comment's first paragraph in one line, without Kubernetes' markers (+optional).
func prose(g *ast.CommentGroup) string {
	first, _, _ := strings.Cut(strings.TrimSpace(g.Text()), "\n\n")
	var lines []string
	for line := range strings.Lines(first) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "+") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, " ")
}
