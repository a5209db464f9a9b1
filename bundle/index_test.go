package bundle_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/myadm/myadm/bundle"
)

// goodIndex is an index that ParseIndex takes, as a value that tests then spoil.
func goodIndex() bundle.Index {
	index := bundle.Index{APIVersion: bundle.APIVersion, KubernetesVersion: "v1.37.2", Artifacts: artifacts()}
	for i := range index.Artifacts {
		a := &index.Artifacts[i]
		blob := bundle.Blob{SHA256: strings.Repeat("0123456789abcdef"[i:i+1], 64), Size: 7}
		a.Kind, a.Blobs = bundle.KindBinary, []bundle.Blob{blob}
		if a.Target == "" {
			config, layer := bundle.Blob{SHA256: strings.Repeat("e", 64), Size: 2}, bundle.Blob{SHA256: strings.Repeat("f", 64), Size: 3}
			a.Kind, a.Blobs, a.Digest = bundle.KindImage, []bundle.Blob{blob, config, layer}, "sha256:"+blob.SHA256
		}
	}
	return index
}

// packed is a compressed content with a checksum of one digit.
func packed(digit string, size int64) bundle.Packed {
	return bundle.Packed{SHA256: strings.Repeat(digit, 64), Size: size}
}

func encode(t testing.TB, index any) []byte {
	t.Helper()
	data, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseIndex(t *testing.T) {
	index, err := bundle.ParseIndex(encode(t, goodIndex()))
	if err != nil || len(index.Artifacts) != 4 || index.Artifacts[0].Mode != 0o755 {
		t.Errorf("parsed %+v, %v", index, err)
	}
}

func TestParseIndexRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(x *bundle.Index, kubelet, etcd *bundle.Artifact)
		want  string
	}{
		"older":             {func(x *bundle.Index, _, _ *bundle.Artifact) { x.APIVersion = "bundle.myadm.dev/v1alpha1" }, "hint: make the bundle anew"},
		"newer":             {func(x *bundle.Index, _, _ *bundle.Artifact) { x.APIVersion = "bundle.myadm.dev/v9" }, `"bundle.myadm.dev/v9"`},
		"no version":        {func(x *bundle.Index, _, _ *bundle.Artifact) { x.KubernetesVersion = "1.37" }, `kubernetesVersion "1.37"`},
		"nothing in it":     {func(x *bundle.Index, _, _ *bundle.Artifact) { x.Artifacts = nil }, "no artifacts"},
		"no name":           {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Name = "" }, `artifact 0 (): name ""`},
		"no arch":           {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Arch = "" }, `artifact 0 (kubelet): arch ""`},
		"no os":             {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.OS = "" }, `artifact 0 (kubelet): os ""`},
		"spaces in version": {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Version = "v1 2" }, `version "v1 2"`},
		"no roles":          {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Roles = nil }, "no roles"},
		"odd role":          {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Roles = []bundle.Role{"Node"} }, `role "Node"`},
		"unknown kind":      {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Kind = "chart" }, `kind "chart"`},
		"negative size":     {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Blobs[0].Size = -1 }, "size -1"},
		"short sum":         {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Blobs[0].SHA256 = "abc" }, `sha256 "abc"`},
		"upper-case sum":    {func(_ *bundle.Index, _, e *bundle.Artifact) { e.Blobs[2].SHA256 = strings.Repeat("F", 64) }, `sha256 "FFFF`},
		"climbing sum":      {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Blobs[0].SHA256 = "../../etc/passwd" }, `sha256 "../../etc/passwd"`},
		"no blob":           {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Blobs = nil }, "artifact 0 (kubelet): 0 blobs; a binary has one"},
		"two blobs":         {func(_ *bundle.Index, a, e *bundle.Artifact) { a.Blobs = e.Blobs[:2] }, "2 blobs; a binary has one"},
		"only a manifest":   {func(_ *bundle.Index, _, e *bundle.Artifact) { e.Blobs = e.Blobs[:1] }, "artifact 2 (etcd): 1 blobs; an image has"},
		"a blob twice":      {func(_ *bundle.Index, _, e *bundle.Artifact) { e.Blobs[2] = e.Blobs[1] }, "is named twice"},
		"another's digest":  {func(_ *bundle.Index, _, e *bundle.Artifact) { e.Digest = "sha256:" + e.Blobs[1].SHA256 }, "is not that of its first blob"},
		"huge manifest":     {func(_ *bundle.Index, _, e *bundle.Artifact) { e.Blobs[0].Size = 5 << 20 }, "a manifest of 5242880 bytes"},
		"two sizes":         {func(_ *bundle.Index, _, e *bundle.Artifact) { e.Blobs[2].Size = 4 }, "has 3 bytes here and 4 in etcd"},
		"packed image":      {func(_ *bundle.Index, _, e *bundle.Artifact) { e.Blobs[2].Zstd = packed("c", 1) }, "is packed, which only binaries are"},
		"short packed sum":  {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Blobs[0].Zstd = bundle.Packed{SHA256: "abc", Size: 1} }, `zstd: sha256 "abc"`},
		"packed sum climbs": {func(_ *bundle.Index, a, _ *bundle.Artifact) {
			a.Blobs[0].Zstd = bundle.Packed{SHA256: "../../x", Size: 1}
		}, `zstd: sha256 "../../x"`},
		"no packed sum":    {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Blobs[0].Zstd = bundle.Packed{Size: 1} }, `zstd: sha256 ""`},
		"no packed size":   {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Blobs[0].Zstd = packed("c", 0) }, "zstd: size 0 is not less than"},
		"packed to more":   {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Blobs[0].Zstd = packed("c", 7) }, "zstd: size 7 is not less than that of the content, 7"},
		"packed to itself": {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Blobs[0].Zstd = packed("0", 6) }, "is that of the content"},
		"packed in two ways": {func(x *bundle.Index, a, _ *bundle.Artifact) {
			x.Artifacts[1].Blobs[0], a.Blobs[0].Zstd = a.Blobs[0], packed("c", 6)
		}, "is stored in another way than in kubelet"},
		"two packed sizes": {func(x *bundle.Index, a, _ *bundle.Artifact) {
			x.Artifacts[1].Blobs[0].Zstd, a.Blobs[0].Zstd = packed("c", 5), packed("c", 6)
		}, "has 5 bytes here and 6 in kubelet"},
		"packed as an image's": {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Blobs[0].Zstd = packed("f", 6) }, "has 3 bytes here and 6 in kubelet"},
		"relative target":      {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Target = "usr/bin/kubelet" }, `target "usr/bin/kubelet"`},
		"climbing target":      {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Target = "/usr/../etc/x" }, `target "/usr/../etc/x"`},
		"no mode":              {func(_ *bundle.Index, a, _ *bundle.Artifact) { a.Mode = 0 }, "mode is missing"},
		"binary with image":    {func(_ *bundle.Index, a, e *bundle.Artifact) { a.Image = e.Image + "x" }, "a binary has no image"},
		"image without tag":    {func(_ *bundle.Index, _, e *bundle.Artifact) { e.Image = "registry.k8s.io/etcd" }, `image "registry.k8s.io/etcd"`},
		"short image":          {func(_ *bundle.Index, _, e *bundle.Artifact) { e.Image = "etcd:3" }, `image "etcd:3"`},
		"no digest":            {func(_ *bundle.Index, _, e *bundle.Artifact) { e.Digest = "" }, `artifact 2 (etcd): digest ""`},
		"image with target":    {func(_ *bundle.Index, _, e *bundle.Artifact) { e.Target = "/x" }, "an image has no target"},
		"same name":            {func(_ *bundle.Index, a, e *bundle.Artifact) { e.Name = a.Name }, "name kubelet is already that of kubelet"},
		"same target":          {func(x *bundle.Index, a, _ *bundle.Artifact) { x.Artifacts[1].Target = a.Target }, "is already that of kubelet"},
		"same image":           {func(x *bundle.Index, _, e *bundle.Artifact) { x.Artifacts[3].Image = e.Image }, "is already that of etcd"},
	} {
		t.Run(name, func(t *testing.T) {
			index := goodIndex()
			c.spoil(&index, &index.Artifacts[0], &index.Artifacts[2])
			_, err := bundle.ParseIndex(encode(t, index))
			wantError(t, err, c.want)
		})
	}
}

func TestParseIndexRefusesText(t *testing.T) {
	good := string(encode(t, goodIndex()))
	for name, c := range map[string][2]string{
		"no JSON":          {"Kubernetes", "index.json: invalid character"},
		"unknown field":    {strings.Replace(good, `"size":7`, `"size":7,"compression":"zstd"`, 1), `"compression"`},
		"packed otherwise": {strings.Replace(good, `"size":7`, `"size":7,"zstd":{"sha256":"`+strings.Repeat("c", 64)+`","size":1,"level":3}`, 1), `"level"`},
		"a path":           {strings.Replace(good, `"size":7`, `"size":7,"path":"../x"`, 1), `"path"`},
		"more than one":    {good + good, "index.json: invalid character"},
		"special mode":     {strings.Replace(good, `"0755"`, `"4755"`, 1), `mode "4755"`},
		"mode no octal":    {strings.Replace(good, `"0755"`, `"rwx"`, 1), `mode "rwx"`},
		"fraction of one":  {strings.Replace(good, `"size":7`, `"size":7.5`, 1), "7.5"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := bundle.ParseIndex([]byte(c[0]))
			wantError(t, err, c[1])
		})
	}
}

// All findings come at once, each with its artifact.
func TestParseIndexReportsEverything(t *testing.T) {
	index := goodIndex()
	index.Artifacts[0].Blobs[0].Size, index.Artifacts[1].Arch, index.Artifacts[2].Digest = -1, "", "x"
	_, err := bundle.ParseIndex(encode(t, index))
	wantError(t, err, "artifact 0 (kubelet)", "artifact 1 (ctr)", "artifact 2 (etcd)")
}

// An index of the first version has fields that are no longer there; it is called old, not malformed.
func TestParseIndexOfFirstVersion(t *testing.T) {
	_, err := bundle.ParseIndex([]byte(`{"apiVersion": "bundle.myadm.dev/v1alpha1", "kubernetesVersion": "v1.37.2", "artifacts": [
		{"name": "kubelet", "path": "blobs/sha256/00", "size": 1, "sha256": "00"}]}`))
	wantError(t, err, "v1alpha1", "older", bundle.APIVersion, "hint: make the bundle anew")
}

// Whatever is accepted can be written and is accepted again, and no blob's place is outside of the bundle.
func FuzzParseIndex(f *testing.F) {
	f.Add(encode(f, goodIndex()))
	f.Add([]byte(`{"apiVersion":"bundle.myadm.dev/v1alpha2","kubernetesVersion":"v1.37.2","artifacts":[{"name":"a","blobs":[{"sha256":"../a","size":1}],"mode":"0755"}]}`))
	f.Add([]byte(`{"apiVersion":"bundle.myadm.dev/v1alpha2","artifacts":null}`))
	compressed := goodIndex()
	compressed.Artifacts[0].Blobs[0].Zstd = packed("c", 6)
	f.Add(encode(f, compressed))
	f.Fuzz(func(t *testing.T, data []byte) {
		index, err := bundle.ParseIndex(data)
		if err != nil {
			return
		}
		for _, a := range index.Artifacts {
			for _, blob := range a.Blobs {
				for _, b := range []bundle.Blob{blob, blob.Stored()} {
					if strings.Trim(b.SHA256, "0123456789abcdef") != "" || len(b.SHA256) != 64 || b.Size < 0 || b.Size > blob.Size {
						t.Errorf("accepted %+v", a)
					}
				}
			}
		}
		if _, err := bundle.ParseIndex(encode(t, index)); err != nil {
			t.Errorf("refused what it accepted: %v", err)
		}
	})
}
