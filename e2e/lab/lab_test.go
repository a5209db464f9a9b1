package lab

import (
	"archive/tar"
	"errors"
	"flag"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestFreeSubnet(t *testing.T) {
	prefixes := func(all ...string) (out []netip.Prefix) {
		for _, p := range all {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	tests := []struct {
		name  string
		taken []netip.Prefix
		want  string
	}{
		{"nothing taken", nil, "10.89.0.0/24"},
		{"first taken", prefixes("10.89.0.0/24"), "10.89.1.0/24"},
		{"a gap is used", prefixes("10.89.0.0/24", "10.89.2.0/24"), "10.89.1.0/24"},
		{"a smaller network inside", prefixes("10.89.0.128/25"), "10.89.1.0/24"},
		{"a larger network around", prefixes("10.89.0.0/18"), "10.89.64.0/24"},
		{"networks elsewhere", prefixes("192.168.0.0/16", "fd00::/64", "10.96.0.0/12"), "10.89.0.0/24"},
	}
	for _, tt := range tests {
		got, err := freeSubnet(tt.taken)
		if err != nil || got.String() != tt.want {
			t.Errorf("%s: got %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
	if got, err := freeSubnet(prefixes("10.0.0.0/8")); err == nil {
		t.Errorf("everything taken: got %s", got)
	}
}

func TestAddressesAreFixed(t *testing.T) {
	subnet := netip.MustParsePrefix("10.89.7.0/24")
	for got, want := range map[string]string{
		gateway(subnet).String():                    "10.89.7.1",
		hostAddress(subnet, 0).String():             "10.89.7.11",
		hostAddress(subnet, maxHosts-1).String():    "10.89.7.210",
		hostName(0) + " " + hostName(maxHosts-1):    "h1 h200",
		(&Lab{id: labID("/some/folder")}).network(): "lab-" + labID("/some/folder"),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// A lab must be found again by whatever path leads to its folder, made or not.
func TestFolderIdentifiesLab(t *testing.T) {
	base := t.TempDir()
	if err := os.Mkdir(filepath.Join(base, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	id := func(dir string) string {
		t.Helper()
		dir, err := canonical(dir)
		if err != nil {
			t.Fatal(err)
		}
		return labID(dir)
	}
	before := id(filepath.Join(base, "link", "a", "b"))
	if err := os.MkdirAll(filepath.Join(base, "real", "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if after := id(filepath.Join(base, "real", "a", "b")); after != before {
		t.Errorf("id is %s before the folder is made and %s after", before, after)
	}
	t.Chdir(filepath.Join(base, "real", "a"))
	if relative := id("b"); relative != before {
		t.Errorf("id is %s by relative path, %s by absolute", relative, before)
	}
	if other := id("."); other == before {
		t.Errorf("two folders share the id %s", other)
	}
	if _, err := canonical("quo\"te"); err == nil {
		t.Error("a folder that ssh_config cannot name was taken")
	}
}

func TestOptions(t *testing.T) {
	tests := []struct {
		name    string
		options Options
		wantErr string
	}{
		{"no folder", Options{}, "--dir"},
		{"too many hosts", Options{Dir: "d", Hosts: 201}, "at most 200"},
		{"more control planes than hosts", Options{Dir: "d", Hosts: 2, ControlPlanes: 3}, "3 control planes of 2 hosts"},
		{"unknown user", Options{Dir: "d", User: "admin"}, `no user "admin"`},
		{"unknown user of one host", Options{Dir: "d", HostUsers: map[string]string{"h1": "x"}}, `host h1: no user "x"`},
		{"user of a host that is not there", Options{Dir: "d", HostUsers: map[string]string{"h2": UserSudo}}, `no host "h2"`},
	}
	for _, tt := range tests {
		if _, err := tt.options.complete(); err == nil || !strings.Contains(err.Error(), tt.wantErr) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.wantErr)
		}
	}
	got, err := Options{Dir: "d", CacheDir: "c"}.complete()
	if err != nil {
		t.Fatal(err)
	}
	want := Options{
		Dir: "d", Hosts: 1, ControlPlanes: 1, KubernetesVersion: DefaultKubernetesVersion, User: UserRoot, CacheDir: "c", Log: io.Discard,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func exampleFolder(cgroupV1 bool) folder {
	host := func(last byte, name, role, user string) login {
		return login{User: user, Host: Host{
			Name: name, Role: role, Address: netip.AddrFrom4([4]byte{10, 89, 3, last}), HostKey: "ssh-ed25519 AAAA" + name,
		}}
	}
	return folder{
		Name: "lab-0123abcd", KubernetesVersion: "v1.37.2", CgroupV1: cgroupV1,
		Key: `/home/me/my lab 100%/id_ed25519`, KnownHosts: `/home/me/my lab 100%/known_hosts`,
		Password: `/home/me/my lab 100%/sudo_password`,
		Hosts: []login{
			host(11, "h1", RoleControlPlane, UserRoot), host(12, "h2", RoleWorker, UserSudo), host(13, "h3", RoleWorker, UserSudoWithPwd),
		},
	}
}

func TestRenderedFiles(t *testing.T) {
	tests := []struct {
		golden, file string
		cgroupV1     bool
	}{
		{"cluster.yaml", ClusterFile, false},
		{"cluster-cgroup-v1.yaml", ClusterFile, true},
		{"ssh_config", SSHConfig, false},
		{"known_hosts", KnownHosts, false},
	}
	for _, tt := range tests {
		got, err := render(tt.file, exampleFolder(tt.cgroupV1))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", tt.golden)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

// Whatever the folder is called, the document must name the key in it.
func FuzzClusterNamesTheKey(f *testing.F) {
	for _, seed := range []string{"/a/id", "/with space/'q'/id", "/back\\slash: #/id", "/ünï/\t/\x7f/id", "/%s/{{.}}/id"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if strings.ToValidUTF8(key, "") != key {
			return // no YAML document can hold it
		}
		example := exampleFolder(true)
		example.Key = key
		data, err := render(ClusterFile, example)
		if err != nil {
			t.Fatal(err)
		}
		var document struct {
			Spec struct {
				Hosts []struct {
					SSH struct{ KeyFile string }
				}
			}
		}
		if err := yaml.Unmarshal(data, &document); err != nil {
			t.Fatalf("%v in\n%s", err, data)
		}
		if got := document.Spec.Hosts[0].SSH.KeyFile; got != key {
			t.Errorf("keyFile is %q, want %q", got, key)
		}
	})
}

func TestIdentityStays(t *testing.T) {
	l := &Lab{Dir: t.TempDir(), id: "0123abcd"}
	first, err := l.ensureIdentity()
	if err != nil {
		t.Fatal(err)
	}
	second, err := l.ensureIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if first != second || first.password == "" || first.authorizedKey == "" {
		t.Errorf("identity is %+v, then %+v", first, second)
	}
	for _, name := range []string{KeyFile, PasswordFile} {
		info, err := os.Stat(l.Path(name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if password, err := l.Password(); err != nil || password != first.password {
		t.Errorf("Password is %q, %v; want %q", password, err, first.password)
	}
}

func TestMachinesShareNothing(t *testing.T) {
	files := func() (map[string]string, string) {
		t.Helper()
		private, err := newKey("root@h1")
		if err != nil {
			t.Fatal(err)
		}
		deliveries, key, err := newMachine(private)
		if err != nil {
			t.Fatal(err)
		}
		content := map[string]string{}
		for _, d := range deliveries {
			content[d.path] = string(d.data)
		}
		return content, key
	}
	one, oneKey := files()
	two, _ := files()
	for path, content := range one {
		if two[path] == content {
			t.Errorf("two machines share %s", path)
		}
	}
	signer, err := ssh.ParsePrivateKey([]byte(one[hostKeyPath]))
	if err != nil {
		t.Fatal(err)
	}
	if public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))); public != oneKey {
		t.Errorf("the private key belongs to %s, not %s", public, oneKey)
	}
	if got := strings.TrimSpace(one["/etc/machine-id"]); len(got) != 32 {
		t.Errorf("machine-id is %q, want 32 digits", got)
	}
}

func TestPackTree(t *testing.T) {
	source := t.TempDir()
	write := func(path, content string, mode fs.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(source, path), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(source, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("run", "#!", 0o755)
	write("sub/secret", "s", 0o600)
	if err := os.Symlink("run", filepath.Join(source, "link")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"opt/copy/ drwxr-xr-x", "opt/copy/link -rwxr-xr-x #!", "opt/copy/run -rwxr-xr-x #!",
		"opt/copy/sub/ drwx------", "opt/copy/sub/secret -rw------- s",
	}
	if diff := cmp.Diff(want, unpack(t, source, "/opt/copy")); diff != "" {
		t.Errorf("folder (-want +got):\n%s", diff)
	}
	want = []string{"opt/bin -rwxr-xr-x #!"}
	if diff := cmp.Diff(want, unpack(t, filepath.Join(source, "run"), "/opt/bin")); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
	if err := packTree(io.Discard, filepath.Join(source, "none"), "/opt"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing source: %v", err)
	}
}

// unpack lists what packTree made, as name, mode and content.
func unpack(t *testing.T, source, target string) []string {
	t.Helper()
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(packTree(writer, source, target)) }()
	var list []string
	archive := tar.NewReader(reader)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, strings.TrimSpace(strings.Join(
			[]string{header.Name, header.FileInfo().Mode().String(), string(content)}, " ")))
	}
}

func TestHasCapability(t *testing.T) {
	const status = "Name:\tlab\nCapEff:\t000001ffffffffff\nCapBnd:\t000001fffeffffff\nCapAmb:\t0000000000000000\n"
	for bit, want := range map[uint]bool{0: true, 23: true, capSysResource: false, 25: true, 40: true, 41: false} {
		if got, err := hasCapability(status, bit); err != nil || got != want {
			t.Errorf("bit %d: got %v, %v; want %v", bit, got, err, want)
		}
	}
	for _, bad := range []string{"", "Name:\tlab\n", "CapBnd:\tnot hex\n"} {
		if got, err := hasCapability(bad, 0); err == nil {
			t.Errorf("%q: got %v", bad, got)
		}
	}
}

func TestReportStages(t *testing.T) {
	var in, log strings.Builder
	for range 41 {
		in.WriteString("I: Retrieving adduser 3.134\nI: Validating adduser 3.134\n")
	}
	in.WriteString("E: Couldn't download packages: adduser\n")
	last := reportStages(strings.NewReader(in.String()), &log)
	want := "host image: retrieving package 40, adduser\nhost image: validating package 40, adduser\n"
	if log.String() != want {
		t.Errorf("log is\n%swant\n%s", log.String(), want)
	}
	if !strings.HasSuffix(last, "E: Couldn't download packages: adduser") || strings.Count(last, "\n") != 9 {
		t.Errorf("last lines are\n%s", last)
	}
}

func TestImageTagIsStable(t *testing.T) {
	one, err := imageTag()
	if err != nil {
		t.Fatal(err)
	}
	two, err := imageTag()
	if err != nil {
		t.Fatal(err)
	}
	if repository, hash, _ := strings.Cut(one, ":"); one != two || repository != "myadm-lab-host" || len(hash) != 12 {
		t.Errorf("tags are %s and %s", one, two)
	}
}
