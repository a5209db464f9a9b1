package phases

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
)

// surveyedDirs are the folders whose free space is looked at. containerd's may be a disk of its own; where it is not there
// yet, df has no answer for it.
var surveyedDirs = []string{"/var/lib", "/var/lib/containerd"}

// surveyScript prints name=value lines: listening ports in hexadecimal, active swaps, free space, the certificates of the
// file that is the first argument, line by line and without the key that is beside them, and which of the other paths exist.
var surveyScript = `
exec 2>/dev/null
for f in /proc/net/tcp /proc/net/tcp6; do
	while read -r n addr peer state rest; do [ "$state" = 0A ] && echo "port=${addr##*:}"; done <$f
done
while read -r name rest; do [ "$name" = Filename ] || echo "swap=$name"; done </proc/swaps
for d in ` + strings.Join(surveyedDirs, " ") + `; do
	df -Pk $d | while read -r fs size used free rest; do [ "$free" = Available ] || echo "free=$d $free"; done
done
sed -n '/^-----BEGIN CERTIFICATE-/,/^-----END CERTIFICATE-/s/^/certificate=/p' "$1"
shift
for p; do [ -e "$p" ] && echo "exists=$p"; done
true
`

// takeSurvey asks a host for all that the rules judge, in one round trip.
func takeSurvey(ctx context.Context, r host.Reader, etcdDataDir string) (*survey, error) {
	argv := []string{"sh", "-c", surveyScript, "sh", config.KubeletClientCert,
		config.KubeletConf, config.PKIDir + "/ca.key", config.PKIDir + "/etcd/ca.crt", etcdDataDir + "/member",
		foreignContainerd, manifestContainerdUnit}
	for _, p := range ports {
		argv = append(argv, p.owner)
	}
	out, err := r.Query(ctx, host.Command(argv...))
	if err != nil {
		return nil, fmt.Errorf("survey the host: %w", err)
	}
	s, err := parseSurvey(out)
	if err != nil {
		return nil, fmt.Errorf("survey the host: %w", err)
	}
	return s, nil
}

func parseSurvey(out []byte) (*survey, error) {
	s := &survey{ports: map[int]bool{}, exists: map[string]bool{}, freeKiB: map[string]int64{}}
	var certificate strings.Builder
	for name, value := range answer(out) {
		switch name {
		case "certificate":
			certificate.WriteString(value + "\n")
		case "port":
			number, err := strconv.ParseUint(value, 16, 16)
			if err != nil {
				return nil, fmt.Errorf("listening port: %w", err)
			}
			s.ports[int(number)] = true
		case "swap":
			s.swaps = append(s.swaps, value)
		case "exists":
			s.exists[value] = true
		case "free":
			dir, kib, _ := strings.Cut(value, " ")
			free, err := strconv.ParseInt(kib, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("free space of %s: %w", dir, err)
			}
			s.freeKiB[dir] = free
		}
	}
	s.nodeName = certs.NodeName([]byte(certificate.String()))
	return s, nil
}
