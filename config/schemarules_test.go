package config

import (
	"reflect"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logsv1 "k8s.io/component-base/logs/api/v1"
)

// rule is what a field must be beyond its type.
type rule struct {
	required bool
	words    []string // all that it may be; of a list, all that its items may be
	empty    bool     // "" is taken as well: it counts as not given
	min, max *int64
}

func between(low, high int64) rule { return rule{min: &low, max: &high} }

func words[T ~string](all []T) (out []string) {
	for _, w := range all {
		out = append(out, string(w))
	}
	return out
}

// rules has a row, by type and JSON name, for each field of which validation asks more than its type by itself. A number
// of 0 counts as not given.
var rules = map[string]rule{
	"Cluster.apiVersion":          {required: true, words: []string{APIVersion}},
	"Cluster.kind":                {required: true, words: []string{Kind}},
	"Spec.apiServerPort":          between(0, 65535),
	"LoadBalancer.type":           {words: loadBalancerTypes, empty: true},
	"LoadBalancer.port":           between(0, 65535),
	"LoadBalancer.routerID":       between(0, 255),
	"Networking.plugin":           {words: plugins, empty: true},
	"Host.roles":                  {words: words(roles)},
	"SSH.port":                    between(0, 65535),
	"Taint.key":                   {required: true},
	"Taint.effect":                {required: true, words: words(effects)},
	"Certificates.keyAlgorithm":   {words: keyAlgorithms, empty: true},
	"Arg.name":                    {required: true},
	"HostPathMount.name":          {required: true},
	"HostPathMount.hostPath":      {required: true},
	"HostPathMount.mountPath":     {required: true},
	"HostPathMount.pathType":      {words: words(pathTypes)},
	"EnvVar.name":                 {required: true},
	"ExternalEtcd.endpoints":      {required: true},
	"ExternalEtcd.caFile":         {required: true},
	"ExternalEtcd.certFile":       {required: true},
	"ExternalEtcd.keyFile":        {required: true},
	"DNS.replicas":                between(0, 1<<31-1),
	"Runtime.type":                {words: runtimeTypes, empty: true},
	"Artifacts.delivery":          {words: deliveries, empty: true},
	"Registry.name":               {required: true},
	"KubeletConfiguration.kind":   {words: []string{"KubeletConfiguration"}},
	"KubeProxyConfiguration.kind": {words: []string{"KubeProxyConfiguration"}},
}

// leaves are the types that read their own JSON.
var leaves = map[reflect.Type]object{
	// time.ParseDuration
	reflect.TypeFor[metav1.Duration]():           {{"type", []string{"string"}}, {"pattern", `^[+-]?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`}},
	reflect.TypeFor[metav1.Time]():               {{"type", []string{"string"}}, {"format", "date-time"}},
	reflect.TypeFor[resource.Quantity]():         {{"type", []string{"string", "number"}}},
	reflect.TypeFor[resource.QuantityValue]():    {{"type", []string{"string", "number"}}},
	reflect.TypeFor[logsv1.TimeOrMetaDuration](): {{"type", []string{"string", "integer"}}},
}
