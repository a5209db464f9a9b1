package release

import "github.com/myadm/myadm/config"

// LabelURL is where the version is published that a label stands for, as one line of text.
func LabelURL(l config.Label) string { return kubernetesReleases + l.String() + ".txt" }
