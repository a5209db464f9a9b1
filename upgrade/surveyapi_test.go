package upgrade

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const metrics = `# HELP apiserver_requested_deprecated_apis [STABLE] Gauge of deprecated APIs that have been requested
# TYPE apiserver_requested_deprecated_apis gauge
apiserver_requested_deprecated_apis{group="policy",removed_release="1.37",resource="poddisruptionbudgets",subresource="",version="v1beta1"} 1
apiserver_requested_deprecated_apis{group="policy",removed_release="1.37",resource="poddisruptionbudgets",subresource="status",version="v1beta1"} 1
apiserver_requested_deprecated_apis{group="",removed_release="",resource="componentstatuses",subresource="",version="v1"} 1
apiserver_requested_deprecated_apis{group="old",removed_release="1.38",resource="things",subresource="",version="v1"} 0
apiserver_requested_deprecated_apis{group="",removed_release="1.39",resource="a\"b,c}d",subresource="",version="v1"} 1
apiserver_requests_total{group="policy"} 7
`

func TestReadRequested(t *testing.T) {
	want := []RequestedAPI{
		{Version: "v1", Resource: `a"b,c}d`, Removed: "1.39"},
		{Group: "policy", Version: "v1beta1", Resource: "poddisruptionbudgets", Removed: "1.37"},
	}
	got, err := readRequested(strings.NewReader(metrics))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if names := got[0].String() + ", " + got[1].String(); names != `v1 a"b,c}d, policy/v1beta1 poddisruptionbudgets` {
		t.Error(names)
	}
}

func FuzzReadRequested(f *testing.F) {
	f.Add(metrics)
	f.Add("apiserver_requested_deprecated_apis{")
	f.Add("apiserver_requested_deprecated_apis{group=\"\\q\"} 1\napiserver_requested_deprecated_apis{=`a`,}NaN")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := readRequested(strings.NewReader(text))
		if err != nil && len(text) < maxMetric {
			t.Error(err)
		}
		for _, r := range list {
			if r.Version == "" || r.Resource == "" || r.Removed == "" {
				t.Errorf("%+v", r)
			}
		}
	})
}

// Each API server knows of its own clients alone.
func TestMergeRequested(t *testing.T) {
	api := func(resource string, hosts ...string) RequestedAPI {
		return RequestedAPI{Version: "v1", Resource: resource, Removed: "1.38", Hosts: hosts}
	}
	got := mergeRequested([]RequestedAPI{api("b", "cp-2"), api("a", "cp-1"), api("b", "cp-1"), api("b", "cp-2")})
	if diff := cmp.Diff([]RequestedAPI{api("a", "cp-1"), api("b", "cp-1", "cp-2")}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
