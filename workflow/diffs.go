package workflow

import "context"

type diffsKey struct{}

// WithDiffs asks the Checks under ctx to fill their changes' Diff. A Check may then read more than it would to tell what
// differs, and costs the round trips for that; it changes nothing all the same.
func WithDiffs(ctx context.Context) context.Context { return context.WithValue(ctx, diffsKey{}, true) }

// WantsDiffs tells a Check whether its changes are to have their Diff.
func WantsDiffs(ctx context.Context) bool {
	wants, _ := ctx.Value(diffsKey{}).(bool)
	return wants
}
