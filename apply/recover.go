package apply

import (
	"context"
	"errors"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/upgrade"
)

// Recover brings back the API of a cluster in which an earlier run was cut while it replaced a control plane: what the host
// goes on with by itself is waited for, and what does not become ready is put back. Where no run was cut and none has failed it
// does nothing: an API that is silent for another reason is what apply is to mend.
func Recover(ctx context.Context, c *cluster.Cluster) error {
	interrupted, err := upgrade.Interrupted(ctx, c)
	if err != nil || !interrupted {
		return err
	}
	client, err := c.Kube(ctx)
	switch {
	case errors.Is(err, cluster.ErrNoCluster):
		return nil
	case err == nil:
		asking, cancel := context.WithTimeout(ctx, learnTimeout)
		defer cancel()
		if client.Health(asking, "/readyz") == nil {
			return nil
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, err = upgrade.Recover(ctx, c, true)
	return err
}
