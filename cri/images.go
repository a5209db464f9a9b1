package cri

import (
	"context"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Image is an image that a runtime has.
type Image struct {
	ID      string   // "sha256:HEX", of its configuration
	Tags    []string // "registry.k8s.io/pause:3.10.1"
	Digests []string // "registry.k8s.io/pause@sha256:HEX", of its manifest or of the index that it was pulled by
	Size    uint64   // bytes
	Pinned  bool     // the kubelet does not collect it
}

// Auth is what a registry wants; one of the three ways. Empty: none.
type Auth struct {
	Username, Password string
	IdentityToken      string // an OAuth2 refresh token
	RegistryToken      string // a bearer token
}

// Images are all images, in the runtime's order.
func (c *Client) Images(ctx context.Context) ([]Image, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got, err := c.images.ListImages(ctx, &runtime.ListImagesRequest{})
	if err != nil {
		return nil, c.failed("list images", err)
	}
	var images []Image
	for _, one := range got.GetImages() {
		images = append(images, image(one))
	}
	return images, nil
}

// Image looks for an image by name and tag, name and digest, or ID, and tells whether the runtime has it.
func (c *Client) Image(ctx context.Context, ref string) (Image, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got, err := c.images.ImageStatus(ctx, &runtime.ImageStatusRequest{Image: &runtime.ImageSpec{Image: ref}})
	if err != nil {
		return Image{}, false, c.failed("image "+ref, err)
	}
	if got.GetImage() == nil { // which is how CRI says that there is none
		return Image{}, false, nil
	}
	return image(got.GetImage()), true, nil
}

// Pull makes the runtime pull an image, by its own mirrors and proxies, and returns what it calls it: its ID, or its name and
// digest. It takes as long as ctx lets it.
func (c *Client) Pull(ctx context.Context, ref string, auth Auth) (string, error) {
	request := &runtime.PullImageRequest{Image: &runtime.ImageSpec{Image: ref}}
	if auth != (Auth{}) {
		request.Auth = &runtime.AuthConfig{
			Username: auth.Username, Password: auth.Password,
			IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
		}
	}
	got, err := c.images.PullImage(ctx, request)
	if err != nil {
		return "", c.failed("pull "+ref, err)
	}
	return got.GetImageRef(), nil
}

func image(i *runtime.Image) Image {
	return Image{ID: i.GetId(), Tags: i.GetRepoTags(), Digests: i.GetRepoDigests(), Size: i.GetSize(), Pinned: i.GetPinned()}
}
