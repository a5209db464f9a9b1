package upgrade

import (
	"strings"
	"testing"
)

func TestCheckKubelet(t *testing.T) {
	tests := []struct {
		api, kubelet string
		err          string // part of it; empty: allowed
	}{
		{"v1.37.2", "v1.37.2", ""},
		{"v1.37.2", "v1.37.0", ""},
		{"v1.37.2", "v1.37.5", ""}, // patches do not count
		{"v1.37.2", "v1.36.3", ""},
		{"v1.37.2", "v1.34.0", ""},
		{"1.37.2", "1.37.2", ""},
		{"v1.37.2", "v1.38.0", "kubelet v1.38.0 is newer than the API server v1.37.2; hint: upgrade the control plane first"},
		{"v1.37.2", "v1.33.9", "kubelet v1.33.9 is more than 3 minors older than the API server v1.37.2; hint: use a bundle of v1.37.2"},
		{"v1.37.2", "v2.37.2", "is newer"},
		{"v2.0.0", "v1.37.2", "older"},
		{"", "v1.37.2", `API server version ""`},
		{"v1.37.2", "new", `kubelet version "new"`},
	}
	for _, tt := range tests {
		t.Run(tt.api+" "+tt.kubelet, func(t *testing.T) {
			err := CheckKubelet(tt.api, tt.kubelet)
			if tt.err == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
		})
	}
}
