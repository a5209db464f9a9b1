package cmd

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/myadm/myadm/upgrade"
)

func TestDrainFlags(t *testing.T) {
	tests := []struct {
		args []string
		want upgrade.DrainOptions
	}{
		{nil, upgrade.DrainOptions{GracePeriod: -1, Timeout: 5 * time.Minute}},
		{
			[]string{"--drain-force", "--drain-delete-emptydir-data", "--drain-disable-eviction", "--drain-grace-period=0", "--drain-timeout=0",
				"--drain-skip-wait-for-delete-timeout=9", "--drain-pod-selector=app!=db"},
			upgrade.DrainOptions{Force: true, DeleteEmptyDirData: true, DisableEviction: true, SkipWaitForDeleteTimeout: 9, PodSelector: "app!=db"},
		},
	}
	for _, tt := range tests {
		var got upgrade.DrainOptions
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		registerDrain(f, &got)
		if err := f.Parse(tt.args); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", tt.args, d)
		}
	}
}
