package staticpod

import "strings"

// ImageVersion is an image's tag, as a version: what a tag cannot hold is written with an underscore there.
func ImageVersion(image string) string {
	image, _, _ = strings.Cut(image, "@")
	i := strings.LastIndexByte(image, ':')
	if i < 0 || strings.Contains(image[i:], "/") {
		return ""
	}
	return strings.ReplaceAll(image[i+1:], "_", "+")
}
