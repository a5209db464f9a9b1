package mirror_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/myadm/myadm/e2e/lab/mirror"
	"github.com/myadm/myadm/e2e/lab/mirror/mirrortest"
)

// Each fault as a client sees it, on a file; what is beside it is whole.
func TestFaults(t *testing.T) {
	m := start(t, mirror.Options{})
	whole := mirrortest.Program("kubelet", "v1.37.2", "amd64")
	half := int64(len(whole) / 2)
	wrong := []byte(whole)
	wrong[half] ^= 1
	for _, c := range []struct {
		fault   mirror.Fault
		headers []string
		status  int
		body    string
		err     error
	}{
		{fault: mirror.Fault{Kind: mirror.WrongBytes}, status: 200, body: string(wrong)},
		{fault: mirror.Fault{Kind: mirror.WrongBytes}, headers: []string{"Range", "bytes=10-"}, status: 206, body: string(wrong[10:])},
		{fault: mirror.Fault{Kind: mirror.Truncated, After: 100}, status: 200, body: whole[:100]},
		{fault: mirror.Fault{Kind: mirror.Truncated, After: 1 << 20}, status: 200, body: whole},
		{fault: mirror.Fault{Kind: mirror.NotFound}, status: 404, body: "404 page not found\n"},
		{fault: mirror.Fault{Kind: mirror.Unavailable}, status: 503, body: "the mirror is out of order\n"},
		{fault: mirror.Fault{Kind: mirror.Die, After: half}, status: 200, body: whole[:half], err: io.ErrUnexpectedEOF},
		{fault: mirror.Fault{Kind: mirror.Die}, status: 200, err: io.ErrUnexpectedEOF},
		{fault: mirror.Fault{Kind: mirror.Die, After: 10}, headers: []string{"Range", "bytes=5-"}, status: 206, body: whole[5:15], err: io.ErrUnexpectedEOF},
		{fault: mirror.Fault{Kind: mirror.OtherDigest}, status: 200, body: whole}, // a file has none
	} {
		c.fault.Path = "**/kubelet"
		if err := m.Fail(c.fault); err != nil {
			t.Fatal(err)
		}
		response, body, err := do(t, http.DefaultClient, m.URL+kubeletPath, c.headers...)
		if response.StatusCode != c.status || body != c.body || !errors.Is(err, c.err) {
			t.Errorf("%+v: %v, %d bytes, %v; want %d, %d bytes, %v", c.fault, response, len(body), err, c.status, len(c.body), c.err)
		}
		get(t, m.URL+strings.Replace(kubeletPath, "kubelet", "kubectl", 1))
		m.Heal()
		if get(t, m.URL+kubeletPath) != whole {
			t.Errorf("%+v: not healed", c.fault)
		}
	}
}

func TestRedirectLoop(t *testing.T) {
	m := start(t, mirror.Options{})
	if err := m.Fail(mirror.Fault{Path: kubeletPath, Kind: mirror.RedirectLoop}); err != nil {
		t.Fatal(err)
	}
	_, _, err := do(t, http.DefaultClient, m.URL+kubeletPath)
	if err == nil || !strings.Contains(err.Error(), "stopped after 10 redirects") {
		t.Errorf("got %v", err)
	}
	if n := m.Stats().Paths[kubeletPath].Requests; n != 10 {
		t.Errorf("%d requests", n)
	}
}

// A stalled download neither goes on nor ends, until the client gives up.
func TestStall(t *testing.T) {
	m := start(t, mirror.Options{})
	if err := m.Fail(mirror.Fault{Path: "/dl.k8s.io/**", Kind: mirror.Stall, After: 100}); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(m.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET "+kubeletPath+" HTTP/1.1\r\nHost: mirror\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.ReadFull(response.Body, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := response.Body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after 100 bytes: %d more, %v", n, err)
	}
	if s := m.Stats(); s.Clients["127.0.0.1"] != (mirror.Count{Requests: 1, Bytes: 100}) {
		t.Errorf("while it stalls: %+v", s)
	}
	m.ResetStats()
	if s := m.Stats(); s.Total.Requests != 0 {
		t.Errorf("after a reset, while it stalls: %+v", s)
	}
}

func TestFaultEndsAfterSoManyTimes(t *testing.T) {
	m := start(t, mirror.Options{})
	fault := mirror.Fault{Path: kubeletPath, Kind: mirror.Unavailable, Times: 2}
	if err := m.Fail(fault); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{503, 503, 200} {
		if response, _, err := do(t, http.DefaultClient, m.URL+kubeletPath); err != nil || response.StatusCode != want {
			t.Errorf("%v, %v; want %d", response, err, want)
		}
	}
	if all := m.Faults(); len(all) != 0 {
		t.Errorf("still there: %+v", all)
	}
}

func TestFaultOfOneClient(t *testing.T) {
	m := start(t, mirror.Options{})
	for _, client := range []string{"10.89.0.1?", "127.0.0.2"} {
		if err := m.Fail(mirror.Fault{Path: "**", Client: client, Kind: mirror.NotFound}); err != nil {
			t.Fatal(err)
		}
	}
	get(t, m.URL+kubeletPath)
	if err := m.Fail(mirror.Fault{Path: "**", Client: "127.*", Kind: mirror.NotFound}); err != nil {
		t.Fatal(err)
	}
	if response, _, err := do(t, http.DefaultClient, m.URL+kubeletPath); err != nil || response.StatusCode != 404 {
		t.Errorf("got %v, %v", response, err)
	}
}

// A registry whose blobs are wrong, cut off or gone is found out by a real client.
func TestFaultsOfBlobs(t *testing.T) {
	m := start(t, mirror.Options{})
	for _, fault := range []mirror.Fault{
		{Kind: mirror.WrongBytes}, {Kind: mirror.Truncated, After: 3}, {Kind: mirror.Die, After: 3}, {Kind: mirror.NotFound},
	} {
		fault.Path = "/v2/registry.k8s.io/pause/blobs/**"
		if err := m.Fail(fault); err != nil {
			t.Fatal(err)
		}
		im, err := remote.Image(reference(t, m, pauseImage))
		if err == nil {
			err = validate.Image(im)
		}
		if err == nil {
			t.Errorf("%+v: nobody noticed", fault)
		}
		m.Heal()
	}
}

func TestFaultIsChecked(t *testing.T) {
	m := start(t, mirror.Options{})
	for want, fault := range map[string]mirror.Fault{
		`path "kubelet"; hint: it begins with / or **`: {Path: "kubelet", Kind: mirror.Die},
		`no kind "fire"; hint: one of [wrong-bytes`:    {Path: "/", Kind: "fire"},
		"after -1, times 0":                            {Path: "/", Kind: mirror.Die, After: -1},
	} {
		if err := m.Fail(fault); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", fault, err, want)
		}
	}
}

func TestStats(t *testing.T) {
	m := start(t, mirror.Options{})
	whole := int64(len(get(t, m.URL+kubeletPath)))
	if _, _, err := do(t, http.DefaultClient, m.URL+kubeletPath, "Range", "bytes=100-"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := do(t, http.DefaultClient, m.URL+"/nothing"); err != nil {
		t.Fatal(err)
	}
	got := m.Stats()
	const said = int64(len("404 page not found\n"))
	want := map[string]mirror.Count{kubeletPath: {Requests: 2, Bytes: 2*whole - 100}, "/nothing": {Requests: 1, Bytes: said}}
	if diff := cmp.Diff(want, got.Paths); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
	total := mirror.Count{Requests: 3, Bytes: 2*whole - 100 + said}
	if got.Total != total || got.Clients["127.0.0.1"] != total || len(got.Log) != 3 {
		t.Errorf("got %+v, want %+v", got, total)
	}
	m.ResetStats()
	if got := m.Stats(); got.Total != (mirror.Count{}) || len(got.Paths) != 0 {
		t.Errorf("after a reset: %+v", got)
	}
}

// Another process does through the admin endpoint what the Go API does.
func TestAdmin(t *testing.T) {
	m := start(t, mirror.Options{AdminListen: "127.0.0.1:0"})
	admin, ctx := mirror.Admin{URL: m.AdminURL}, t.Context()
	fault := mirror.Fault{Path: kubeletPath, Client: "127.0.0.1", Kind: mirror.Truncated, After: 5, Times: 7}
	if err := admin.Fail(ctx, fault); err != nil {
		t.Fatal(err)
	}
	if all, err := admin.Faults(ctx); err != nil || !cmp.Equal(all, []mirror.Fault{fault}) {
		t.Errorf("faults %+v, %v", all, err)
	}
	if got := get(t, m.URL+kubeletPath); len(got) != 5 {
		t.Errorf("%d bytes", len(got))
	}
	if s, err := admin.Stats(ctx); err != nil || !cmp.Equal(s.Paths, map[string]mirror.Count{kubeletPath: {Requests: 1, Bytes: 5}}) {
		t.Errorf("stats %+v, %v", s, err)
	}
	if err := errors.Join(admin.ResetStats(ctx), admin.Heal(ctx)); err != nil {
		t.Fatal(err)
	}
	if s, all := m.Stats(), m.Faults(); s.Total.Requests != 0 || len(all) != 0 {
		t.Errorf("after resets: %+v, %+v", s, all)
	}
	if err := admin.Fail(ctx, mirror.Fault{Path: "/", Kind: "fire"}); err == nil || !strings.Contains(err.Error(), `no kind "fire"`) {
		t.Errorf("a wrong fault: %v", err)
	}
	for range 2 {
		if err := admin.Stop(ctx); err != nil {
			t.Fatal(err)
		}
	}
	<-m.Stopped()
	m.Close()
	if _, err := admin.Stats(ctx); err == nil || !strings.Contains(err.Error(), "mirror's admin endpoint") {
		t.Errorf("after the end: %v", err)
	}
}
