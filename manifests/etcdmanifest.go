package manifests

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// EtcdInitialCluster reads from the manifest of an etcd static pod, whoever wrote it, the members that etcd was told of
// (--initial-cluster) and whether they were a cluster already (--initial-cluster-state=existing). Members are nil when the
// manifest names none or cannot be read. A member with several peer URLs comes several times, as on the command line.
func EtcdInitialCluster(manifest []byte) (members []Member, existing bool) {
	var pod corev1.Pod
	if err := yaml.Unmarshal(manifest, &pod); err != nil {
		return nil, false
	}
	var argv []string
	for _, c := range pod.Spec.Containers {
		if c.Name == EtcdName {
			argv = append(append(argv, c.Command...), c.Args...)
		}
	}
	for pair := range strings.SplitSeq(argvFlag(argv, "initial-cluster"), ",") {
		if name, url, ok := strings.Cut(pair, "="); ok && name != "" && url != "" {
			members = append(members, Member{Name: name, PeerURL: url})
		}
	}
	return members, len(members) > 0 && argvFlag(argv, "initial-cluster-state") == "existing"
}

// argvFlag is the last value of a flag, as Go's flag packages read it: one dash or two, its value after = or as the next
// argument.
func argvFlag(argv []string, name string) (value string) {
	for i, arg := range argv {
		given, inline, ok := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		switch {
		case given != name || !strings.HasPrefix(arg, "-"):
		case ok:
			value = inline
		case i+1 < len(argv):
			value = argv[i+1]
		}
	}
	return value
}
