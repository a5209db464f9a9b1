package mirror_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/myadm/myadm/e2e/lab/mirror"
	"github.com/myadm/myadm/e2e/lab/mirror/mirrortest"
)

func readLayer(layer v1.Layer) ([]byte, error) {
	r, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func start(t *testing.T, o mirror.Options) *mirror.Mirror {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Bundles == nil {
		o.Bundles = []string{mirrortest.Bundle(t, "v1.37.2", "amd64")}
	}
	m, err := mirror.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// reply is what came before the body.
type reply struct {
	StatusCode, ProtoMajor int
	Header                 http.Header
}

func do(t *testing.T, client *http.Client, url string, headers ...string) (reply, string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return reply{}, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.ProtoMajor, response.Header}, string(body), err
}

// get fails the test unless the file is there.
func get(t *testing.T, url string) string {
	t.Helper()
	response, body, err := do(t, http.DefaultClient, url)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v, %v", url, response, err)
	}
	return body
}

// unpack is what a gzip-ed tar file has.
func unpack(t *testing.T, data string) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]string{}
	for archive := tar.NewReader(zip); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return members
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		members[header.Name] = string(body)
	}
}

const (
	containerdPath = "/github.com/containerd/containerd/releases/download/v2.4.2/containerd-static-2.4.2-linux-amd64.tar.gz"
	runcPath       = "/github.com/opencontainers/runc/releases/download/v1.5.2/"
	cniPath        = "/github.com/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz"
	flannelPath    = "/github.com/flannel-io/cni-plugin/releases/download/v1.9.1-flannel3/cni-plugin-flannel-linux-amd64-v1.9.1.tgz"
	kubeletPath    = "/dl.k8s.io/release/v1.37.2/bin/linux/amd64/kubelet"
)

func TestProgramsAreThemselves(t *testing.T) {
	m := start(t, mirror.Options{})
	if got := get(t, m.URL+kubeletPath); got != mirrortest.Program("kubelet", "v1.37.2", "amd64") {
		t.Errorf("kubelet is %.40q", got)
	}
	if got := get(t, m.URL+runcPath+"runc.amd64"); got != mirrortest.Program("runc", "1.1.5+ds1", "amd64") {
		t.Errorf("runc is %.40q", got)
	}
}

func TestArchivesHaveUpstreamsMembers(t *testing.T) {
	m := start(t, mirror.Options{})
	for path, want := range map[string]map[string]string{
		containerdPath: {
			"bin/containerd":              mirrortest.Program("containerd", "v2.4.2", "amd64"),
			"bin/containerd-shim-runc-v2": mirrortest.Program("containerd-shim-runc-v2", "v2.4.2", "amd64"),
			"bin/ctr":                     mirrortest.Program("ctr", "v2.4.2", "amd64"),
		},
		cniPath: {
			"./": "", "./bridge": mirrortest.Program("cni-bridge", "v1.9.1", "amd64"), "./host-local": mirrortest.Program("cni-host-local", "v1.9.1", "amd64"),
			"./loopback": mirrortest.Program("cni-loopback", "v1.9.1", "amd64"), "./portmap": mirrortest.Program("cni-portmap", "v1.9.1", "amd64"),
		},
		flannelPath: {"flannel-amd64": mirrortest.Program("cni-flannel", "v0.28.10", "amd64")},
	} {
		if diff := cmp.Diff(want, unpack(t, get(t, m.URL+path))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func TestChecksumFiles(t *testing.T) {
	m := start(t, mirror.Options{})
	sum256 := func(path string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(get(t, m.URL+path)))) }
	sum512 := func(path string) string { return fmt.Sprintf("%x", sha512.Sum512([]byte(get(t, m.URL+path)))) }
	for file, want := range map[string]string{
		kubeletPath + ".sha256":       sum256(kubeletPath),
		kubeletPath + ".sha512":       sum512(kubeletPath),
		containerdPath + ".sha256sum": sum256(containerdPath) + "  " + path.Base(containerdPath) + "\n",
		cniPath + ".sha256":           sum256(cniPath) + "  " + path.Base(cniPath) + "\n",
		cniPath + ".sha512":           sum512(cniPath) + "  " + path.Base(cniPath) + "\n",
		flannelPath + ".sha256":       sum256(flannelPath) + "  " + path.Base(flannelPath) + "\n",
	} {
		if got := get(t, m.URL+file); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
}

// A list has a line for each architecture, between the lines of a signature.
func TestSignedList(t *testing.T) {
	m := start(t, mirror.Options{Bundles: []string{mirrortest.Bundle(t, "v1.37.2", "arm64"), mirrortest.Bundle(t, "v1.37.2", "amd64"), mirrortest.Bundle(t, "v1.36.3", "amd64")}})
	list := get(t, m.URL+runcPath+"runc.sha256sum")
	var want string
	for _, name := range []string{"runc.amd64", "runc.arm64"} {
		want += fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(get(t, m.URL+runcPath+name))), name)
	}
	if !strings.HasPrefix(list, "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"+want+"-----BEGIN PGP SIGNATURE-----\n") {
		t.Errorf("the list is\n%s\nwant in it\n%s", list, want)
	}
}

func TestLabels(t *testing.T) {
	m := start(t, mirror.Options{
		Bundles: []string{mirrortest.Bundle(t, "v1.37.2", "amd64"), mirrortest.Bundle(t, "v1.36.3", "amd64"), mirrortest.Bundle(t, "v1.36.10", "amd64")},
		Labels:  map[string]string{"latest": "v1.38.0-alpha.1"},
	})
	for label, want := range map[string]string{
		"stable": "v1.37.2", "stable-1.37": "v1.37.2", "latest-1.37": "v1.37.2", "stable-1.36": "v1.36.10", "latest": "v1.38.0-alpha.1",
	} {
		if got := get(t, m.URL+"/dl.k8s.io/release/"+label+".txt"); got != want {
			t.Errorf("%s is %q, want %q", label, got, want)
		}
	}
}

func TestProductsAreServedAsOtherReleases(t *testing.T) {
	m := start(t, mirror.Options{As: map[string][]string{"containerd": {"v2.2.1"}, "runc": {"v1.4.0"}}})
	other := strings.ReplaceAll(containerdPath, "2.4.2", "2.2.1")
	if get(t, m.URL+other) != get(t, m.URL+containerdPath) {
		t.Error("v2.2.1 differs from what stands for it")
	}
	var runc []string
	for _, p := range m.Paths() {
		if path.Base(p) == "runc.amd64" {
			runc = append(runc, path.Base(path.Dir(p)))
		}
	}
	if diff := cmp.Diff([]string{"v1.4.0", "v1.5.2"}, runc); diff != "" { // Debian's own version is nobody's release
		t.Errorf("releases of runc (-want +got):\n%s", diff)
	}
	_, err := mirror.Start(t.Context(), mirror.Options{Dir: t.TempDir(), Bundles: []string{"x"}, As: map[string][]string{"docker": {"v1"}}})
	if err == nil || !strings.Contains(err.Error(), `no product "docker"; hint: kubelet`) {
		t.Errorf("an unknown product: %v", err)
	}
}

func TestRanges(t *testing.T) {
	m := start(t, mirror.Options{})
	whole := mirrortest.Program("kubelet", "v1.37.2", "amd64")
	response, _, err := do(t, http.DefaultClient, m.URL+kubeletPath)
	if err != nil {
		t.Fatal(err)
	}
	tag := response.Header.Get("ETag")
	for _, c := range []struct {
		headers []string
		status  int
		want    string
	}{
		{[]string{"Range", "bytes=100-"}, http.StatusPartialContent, whole[100:]},
		{[]string{"Range", "bytes=100-", "If-Range", tag}, http.StatusPartialContent, whole[100:]},
		{[]string{"Range", "bytes=100-", "If-Range", `"another"`}, http.StatusOK, whole},
		{[]string{"Range", "bytes=3-5"}, http.StatusPartialContent, whole[3:6]},
		{[]string{"Range", "bytes=999999-"}, http.StatusRequestedRangeNotSatisfiable, "invalid range: failed to overlap\n"},
	} {
		response, got, err := do(t, http.DefaultClient, m.URL+kubeletPath, c.headers...)
		if err != nil || response.StatusCode != c.status || got != c.want {
			t.Errorf("%v: %d with %d bytes, %v; want %d with %d", c.headers, response.StatusCode, len(got), err, c.status, len(c.want))
		}
	}
}

func TestPrefix(t *testing.T) {
	m := start(t, mirror.Options{Prefix: "/mirrors/upstream/"})
	if !strings.HasSuffix(m.URL, "/mirrors/upstream") {
		t.Errorf("the URL is %s", m.URL)
	}
	get(t, m.URL+kubeletPath)
	if response, _, err := do(t, http.DefaultClient, strings.TrimSuffix(m.URL, "/mirrors/upstream")+kubeletPath); err != nil || response.StatusCode != 404 {
		t.Errorf("without the prefix: %v, %v", response, err)
	}
	for _, p := range m.Paths() {
		if !strings.HasPrefix(p, "/mirrors/upstream/dl.k8s.io/") && !strings.HasPrefix(p, "/mirrors/upstream/github.com/") {
			t.Errorf("path %s", p)
		}
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	client := func(caFile string) *http.Client {
		t.Helper()
		data, err := os.ReadFile(caFile)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(data)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	bundles := []string{mirrortest.Bundle(t, "v1.37.2", "amd64")}
	m := start(t, mirror.Options{Bundles: bundles, TLSDir: dir})
	trusting := client(m.CAFile)
	response, body, err := do(t, trusting, m.URL+kubeletPath)
	if err != nil || body != mirrortest.Program("kubelet", "v1.37.2", "amd64") || response.ProtoMajor != 2 {
		t.Errorf("with the CA: %v, %v", response, err)
	}
	var unknown x509.UnknownAuthorityError
	if _, _, err := do(t, http.DefaultClient, m.URL+kubeletPath); !errors.As(err, &unknown) {
		t.Errorf("without the CA: %v", err)
	}
	if err := m.Fail(mirror.Fault{Path: "**", Kind: mirror.Die, After: 100}); err != nil {
		t.Fatal(err)
	}
	if _, body, err := do(t, trusting, m.URL+kubeletPath); err == nil || len(body) != 100 {
		t.Errorf("HTTP/2 that dies: %d bytes, %v", len(body), err)
	}
	m.Close()
	again := start(t, mirror.Options{Bundles: bundles, TLSDir: dir})
	if _, _, err := do(t, trusting, again.URL+kubeletPath); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "ca.key")); err != nil || info.Mode() != 0o600 {
		t.Errorf("ca.key: %v, %v", info.Mode(), err)
	}
}

func TestBasicAuth(t *testing.T) {
	m := start(t, mirror.Options{Username: "lab", Password: "open sesame"})
	for _, url := range []string{m.URL + kubeletPath, m.URL + "/v2/"} {
		response, _, err := do(t, http.DefaultClient, url)
		if err != nil || response.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(response.Header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s without a password: %v, %v", url, response, err)
		}
		for _, wrong := range []string{"lab:wrong", "other:open%20sesame", "lab"} {
			if response, _, err := do(t, http.DefaultClient, strings.Replace(url, "://", "://"+wrong+"@", 1)); err != nil || response.StatusCode != 401 {
				t.Errorf("%s as %s: %v, %v", url, wrong, response, err)
			}
		}
		if response, _, err := do(t, http.DefaultClient, strings.Replace(url, "://", "://lab:open%20sesame@", 1)); err != nil || response.StatusCode != 200 {
			t.Errorf("%s with the password: %v, %v", url, response, err)
		}
	}
}

// Filling links what a bundle has, makes nothing twice, and makes the same from a tar file.
func TestFillingIsCheapAndDeterministic(t *testing.T) {
	dir, folder := t.TempDir(), mirrortest.Bundle(t, "v1.37.2", "amd64")
	m := start(t, mirror.Options{Dir: dir, Bundles: []string{folder}})
	first := get(t, m.URL+containerdPath)
	m.Close()
	linked := func() (n int) {
		t.Helper()
		err := filepath.WalkDir(filepath.Join(folder, "blobs"), func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			ours, err := os.Stat(filepath.Join(dir, "blobs", "sha256", entry.Name()))
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			theirs, statErr := os.Stat(name)
			if os.SameFile(ours, theirs) {
				n++
			}
			return errors.Join(err, statErr)
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := linked(); n < 10 { // and one that the bundle has compressed is unpacked
		t.Errorf("%d of 10 programs are linked", n)
	}
	before := listing(t, dir)
	again := start(t, mirror.Options{Dir: dir, Bundles: []string{folder}})
	if diff := cmp.Diff(before, listing(t, dir)); diff != "" {
		t.Errorf("filling again changed the store (-before +after):\n%s", diff)
	}
	if get(t, again.URL+containerdPath) != first {
		t.Error("another archive the second time")
	}

	fromTar := start(t, mirror.Options{Bundles: []string{mirrortest.Tar(t, "v1.37.2", "amd64")}})
	if get(t, fromTar.URL+containerdPath) != first {
		t.Error("another archive from a tar file")
	}
	if diff := cmp.Diff(again.Paths(), fromTar.Paths()); diff != "" {
		t.Errorf("other paths from a tar file (-folder +tar):\n%s", diff)
	}
}

// listing is every file below dir with its modification time.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			files[name] = info.ModTime().String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestStartRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		options mirror.Options
		want    string
	}{
		"nothing":   {mirror.Options{}, "a folder and a bundle are needed"},
		"no bundle": {mirror.Options{Dir: t.TempDir(), Bundles: []string{"/nowhere"}}, "bundle /nowhere: no such file"},
		"an admin endpoint for everybody": {
			mirror.Options{Dir: t.TempDir(), Bundles: []string{mirrortest.Bundle(t, "v1.37.2", "amd64")}, AdminListen: "0.0.0.0:0"}, "not a loopback address",
		},
	} {
		if _, err := mirror.Start(t.Context(), c.options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := mirror.Start(ctx, mirror.Options{Dir: t.TempDir(), Bundles: []string{mirrortest.Bundle(t, "v1.37.2", "amd64")}}); !errors.Is(err, context.Canceled) {
		t.Errorf("under a cancelled context: %v", err)
	}
}
