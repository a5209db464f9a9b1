package phases

import (
	"slices"
	"testing"

	"github.com/myadm/myadm/config"
)

// Images are imported by the names that static pods and addons have for them, also those of a repository of the user's.
func TestImagesHaveTheNamesThatPodsUse(t *testing.T) {
	for _, repository := range []string{config.DefaultImageRepository, "registry.example/k8s"} {
		c, _ := testCluster(t, "cp-1")
		c.Config.Spec.ImageRepository = repository
		used, err := config.ImagesOf(c.Config)
		if err != nil {
			t.Fatal(err)
		}
		images, err := NodeImages(c, c.Nodes[0])
		if err != nil || len(images) == 0 {
			t.Fatalf("%d images, %v", len(images), err)
		}
		for _, a := range images {
			if !slices.Contains(used.All(), a.Image) {
				t.Errorf("with %s, %s is imported, and pods use %v", repository, a.Image, used.All())
			}
		}
	}
}
