package upgrade

import (
	"context"
	"fmt"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/unified"
	"github.com/myadm/myadm/workflow"
)

// showEdits tells edits as changes, and shows how the objects differ if the plan is to. Edits of one object are each shown on
// the object as it is.
func showEdits(ctx context.Context, r kube.Reader, edits []edit) ([]workflow.Change, error) {
	changes := changesOf(edits)
	if !workflow.WantsDiffs(ctx) {
		return changes, nil
	}
	for i, e := range edits {
		d, err := e.difference(ctx, r)
		if err != nil {
			return nil, err
		}
		was, is, err := d.Texts()
		if err != nil {
			return nil, err
		}
		changes[i].Diff = unified.Diff(e.ref.String(), was, is)
	}
	return changes, nil
}

func (e edit) difference(ctx context.Context, r kube.Reader) (kube.Difference, error) {
	if e.create != nil {
		return kube.New(e.create), nil
	}
	was, err := r.Get(ctx, e.ref)
	if err != nil {
		return kube.Difference{}, err
	}
	is := was.DeepCopy()
	if err := e.do(is); err != nil {
		return kube.Difference{}, fmt.Errorf("%s: %w", e.ref, err)
	}
	return kube.Between(was, is), nil
}
