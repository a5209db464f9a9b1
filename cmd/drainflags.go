package cmd

import (
	"github.com/spf13/pflag"

	"github.com/myadm/myadm/upgrade"
)

// registerDrain adds the choices of kubectl drain, with drain- before kubectl's names: --force is taken.
func registerDrain(f *pflag.FlagSet, o *upgrade.DrainOptions) {
	*o = upgrade.DefaultDrainOptions()
	f.BoolVar(&o.Force, "drain-force", o.Force, "also delete pods that no controller replaces (kubectl drain --force)")
	f.BoolVar(&o.DeleteEmptyDirData, "drain-delete-emptydir-data", o.DeleteEmptyDirData,
		"also move pods with emptyDir volumes, whose data is lost (kubectl drain --delete-emptydir-data)")
	f.BoolVar(&o.DisableEviction, "drain-disable-eviction", o.DisableEviction,
		"delete pods instead of evicting them, past their PodDisruptionBudgets (kubectl drain --disable-eviction)")
	f.IntVar(&o.GracePeriod, "drain-grace-period", o.GracePeriod,
		"seconds that each pod gets to end; negative: the pod's own (kubectl drain --grace-period)")
	f.DurationVar(&o.Timeout, "drain-timeout", o.Timeout, "how long the draining of one node may take; 0: without end (kubectl drain --timeout)")
	f.IntVar(&o.SkipWaitForDeleteTimeout, "drain-skip-wait-for-delete-timeout", o.SkipWaitForDeleteTimeout,
		"do not wait for pods that should have ended this many seconds ago; 0: wait (kubectl drain --skip-wait-for-delete-timeout)")
	f.StringVar(&o.PodSelector, "drain-pod-selector", o.PodSelector, "move only pods with these labels (kubectl drain --pod-selector)")
}
