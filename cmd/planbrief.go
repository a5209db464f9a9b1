package cmd

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/myadm/myadm/workflow"
)

// What is summed up of a phase on a host: above maxPlanLines changes it has one line, on which an action's objects are named
// one by one up to these numbers. What is already there is named rather than counted.
const maxPlanLines = 3

var maxNamed = map[workflow.Action]int{workflow.Create: 1, workflow.Update: 4, workflow.Delete: 4, workflow.Run: 2}

// brief is a phase's changes on one line: "+ create 22 files in /etc/kubernetes/pki, ! run unit kubelet.service".
func (v *planView) brief(host string, changes []workflow.Change) string {
	var parts []string
	for _, s := range planSigns {
		var objects []string
		for _, c := range changes {
			if c.Action == s.action {
				objects = append(objects, printable(ownName(c.Object, host)))
			}
		}
		if len(objects) == 0 {
			continue
		}
		text := strings.Join(objects, ", ")
		if len(objects) > maxNamed[s.action] {
			text = countObjects(objects)
		}
		parts = append(parts, v.paint(s.style, s.sign+" "+string(s.action)+" "+text))
	}
	return strings.Join(parts, ", ")
}

// countObjects counts objects by what they are, in the order in which these come: "22 files in /etc/kubernetes/pki, 3 images".
func countObjects(objects []string) string {
	var kinds []string
	of := map[string][]string{}
	for _, o := range objects {
		kind := objectKind(o)
		if of[kind] == nil {
			kinds = append(kinds, kind)
		}
		of[kind] = append(of[kind], o)
	}
	texts := make([]string, len(kinds))
	for i, kind := range kinds {
		switch all := of[kind]; {
		case len(all) == 1:
			texts[i] = all[0]
		case kind == kindFile:
			texts[i] = count(len(all), "file") + " in " + folders(all)
		default:
			texts[i] = count(len(all), kind)
		}
	}
	return strings.Join(texts, ", ")
}

const kindFile = "file"

// objectKind is what an object is, by its first word: "image" of "image pause:3.10.2", "file" of a path.
func objectKind(object string) string {
	if path.IsAbs(object) {
		return kindFile
	}
	kind, _, _ := strings.Cut(object, " ")
	return kind
}

// maxFolders is how many folders of files are named.
const maxFolders = 2

// folders names the folders in which files are, without those below others, and the one around them if they are too many.
func folders(files []string) string {
	var all []string
	for _, f := range files {
		all = append(all, path.Dir(f))
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	var top []string
	for _, dir := range all {
		if !slices.ContainsFunc(top, func(t string) bool { return dir == t || strings.HasPrefix(dir, strings.TrimSuffix(t, "/")+"/") }) {
			top = append(top, dir)
		}
	}
	if len(top) <= maxFolders {
		return strings.Join(top, " and ")
	}
	return fmt.Sprintf("%s and %d other folders", top[0], len(top)-1)
}
