package phases

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd/etcdtest"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// control is a control plane of which the static pods run as long as the kubelet does, as far as a restore is concerned.
type control struct {
	*machine
	t    testing.TB
	node *cluster.Node

	mu      sync.Mutex
	running []string // components
	ended   []string // in the order in which they did
}

const memberData = config.EtcdDataDir + "/member/snap/db"

// controls makes a cluster of control planes that run, each with a member's data that names it.
func controls(t testing.TB, names ...string) (*cluster.Cluster, []*control) {
	t.Helper()
	c, machines := testCluster(t, names...)
	pki := etcdtest.NewTLS(t)
	var all []*control
	for i, m := range machines {
		k := &control{machine: m, t: t, node: c.Nodes[i]}
		all = append(all, k)
		for file, data := range pki.Member(k.Name()).PKI() {
			m.Put(host.File{Path: file, Mode: 0o600, Data: data})
		}
		m.touch("/etc/systemd/system/kubelet.service", 0o644, "[Service]\n[Install]\nWantedBy=multi-user.target\n")
		m.touch(config.KubeletConfigFile, 0o644, "kind: KubeletConfiguration\n")
		m.touch(memberData, 0o600, "old data of "+k.Name())
		m.onStart = k.start
		m.OnDial(func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") })
		k.install()
	}
	run(t, Etcd(c, c.Nodes), ControlPlane(c, c.Nodes))
	for _, k := range all {
		run(t, startKubelet(k.node))
		if len(k.running) != len(stoppedPods) {
			t.Fatalf("%s runs %q", k.Name(), k.running)
		}
	}
	return c, all
}

// start is the kubelet: it starts what has a manifest. An etcd that finds no data makes an empty cluster of itself if its
// manifest lets it, which is what must never happen.
func (k *control) start(string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range stoppedPods {
		manifest, ok := k.Get(manifests.StaticPodPath(name))
		if !ok || slices.Contains(k.running, name) {
			continue
		}
		_, data := k.Get(memberData)
		if _, existing := manifests.EtcdInitialCluster(manifest.Data); name == manifests.EtcdName && !data && !existing {
			k.t.Errorf("%s: etcd starts an empty cluster", k.Name())
		}
		k.running = append(k.running, name)
	}
}

func (k *control) install() {
	ctr := []string{"ctr", "--namespace", "k8s.io"}
	k.OnPrefix("sh", "-c", runningScript, "sh").Do(func(_ *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		var out bytes.Buffer
		for _, name := range strings.Fields(cmd.Argv[4]) {
			if slices.Contains(k.running, name) {
				fmt.Fprintf(&out, "%s id-of-%s\n", name, name)
			}
		}
		return out.Bytes(), nil
	})
	k.OnPrefix("sh", "-c", endTaskScript, "sh").Changes().Do(func(_ *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		name := strings.TrimPrefix(cmd.Argv[4], "id-of-")
		if k.units.Active("kubelet") {
			k.t.Errorf("%s: %s is ended while the kubelet would start it anew", k.Name(), name)
		}
		k.running = slices.DeleteFunc(k.running, func(s string) bool { return s == name })
		k.ended = append(k.ended, name)
		return nil, nil
	})
	k.OnPrefix("sh", "-c", moveScript, "sh").Changes().Do(func(_ *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		return nil, k.rename(cmd.Argv[4], cmd.Argv[5])
	})
	k.OnPrefix("cp", "--reflink=auto").Changes().Do(func(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		file, ok := f.Get(cmd.Argv[2])
		if !ok {
			return nil, &host.ExitError{Argv: cmd.Argv, Code: 1, Stderr: []byte("cp: cannot stat")}
		}
		file.Path = cmd.Argv[3]
		f.Put(file)
		return nil, nil
	})
	k.OnPrefix("find", config.EtcdDataDir, "-maxdepth", "1", "-name").Do(func(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		var found []string
		for _, p := range f.Paths(config.EtcdDataDir) {
			if ok, err := path.Match(cmd.Argv[5], path.Base(p)); err != nil || ok && path.Dir(p) == config.EtcdDataDir {
				found = append(found, p)
			}
		}
		return lines(found), nil
	})
	k.OnPrefix(append(ctr, "run", "--rm", "--mount")...).Changes().Do(k.etcdutl)
}

// rename is moveScript.
func (k *control) rename(from, to string) error {
	if len(k.Paths(to)) > 0 {
		return fmt.Errorf("%s is there already", to)
	}
	below := k.Paths(from)
	if slices.Contains(k.running, manifests.EtcdName) && from == config.EtcdDataDir+"/member" {
		k.t.Errorf("%s: the data is taken away from an etcd that runs", k.Name())
	}
	k.Mkdir(to, 0o700)
	for _, p := range below {
		if file, ok := k.Get(p); ok {
			file.Path = to + strings.TrimPrefix(p, from)
			k.Put(file)
		} else {
			k.Mkdir(to+strings.TrimPrefix(p, from), 0o700)
		}
	}
	k.Delete(from)
	return nil
}

// etcdutl is etcdutl snapshot restore in a container.
func (k *control) etcdutl(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
	flags := map[string]string{}
	for _, arg := range cmd.Argv {
		name, value, _ := strings.Cut(arg, "=")
		flags[name] = value
	}
	i := slices.Index(cmd.Argv, "restore")
	snapshot, ok := f.Get(cmd.Argv[i+1])
	_, skip := flags["--skip-hash-check"]
	if hashed := strings.HasPrefix(string(snapshot.Data), "snapshot"); !ok || hashed == skip {
		return nil, &host.ExitError{Argv: cmd.Argv, Code: 1, Stderr: fmt.Appendf(nil, "%q, skip-hash-check %v", snapshot.Data, skip)}
	}
	for _, flag := range []string{"--name=" + k.Name(), "--bump-revision=1000000000", "--mark-compacted",
		"--initial-cluster=" + k.Name() + "=" + nodeOf(k.node).EtcdPeerURL(), "--initial-advertise-peer-urls=" + nodeOf(k.node).EtcdPeerURL()} {
		if !slices.Contains(cmd.Argv, flag) {
			k.t.Errorf("%s: %q has no %s", k.Name(), cmd.Argv, flag)
		}
	}
	if flags["--initial-cluster-token"] == "" {
		k.t.Errorf("%s: the new cluster would have the old one's ID", k.Name())
	}
	f.Put(host.File{Path: flags["--data-dir"] + "/member/snap/db", Mode: 0o600, Data: append([]byte("made of "), snapshot.Data...)})
	return nil, nil
}

// data is what the member's database holds, and what the folders with old data do.
func (k *control) data() (now string, kept []string) {
	file, _ := k.Get(memberData)
	for _, p := range k.Paths(config.EtcdDataDir) {
		if strings.Contains(p, asidePrefix) && path.Base(p) == "db" {
			old, _ := k.Get(p)
			kept = append(kept, string(old.Data))
		}
	}
	return string(file.Data), kept
}

// snapshotOf is a snapshot with some content.
func snapshotOf(content string) EtcdSource {
	data := []byte("snapshot " + content)
	sum := sha256.Sum256(data)
	return EtcdSource{Snapshot: &host.Blob{Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), Open: func() (io.ReadSeekCloser, error) {
		return struct {
			io.ReadSeeker
			io.Closer
		}{bytes.NewReader(data), io.NopCloser(nil)}, nil
	}}}
}

// restore runs a restore, but for the wait for a control plane that these hosts do not have.
func restore(t testing.TB, c *cluster.Cluster, source EtcdSource) (*EtcdRestore, error) {
	t.Helper()
	r, err := NewEtcdRestore(t.Context(), c, source)
	if err != nil {
		return nil, err
	}
	runner := workflow.Runner{Skip: []string{"wait-control-plane"}}
	_, err = runner.Run(context.Background(), r.Steps(time.Minute)...)
	return r, err
}

// restored checks the hosts after a restore to target: it runs etcd with the data, alone; the others have nothing that
// could come up with the old data; and no data is lost.
func restored(t testing.TB, all []*control, target, data string) {
	t.Helper()
	for _, k := range all {
		now, kept := k.data()
		if want := []string{"old data of " + k.Name()}; !slices.Equal(kept, want) {
			t.Errorf("%s keeps %q, want %q", k.Name(), kept, want)
		}
		manifest, hasManifest := k.Get(manifests.StaticPodPath(manifests.EtcdName))
		if k.Name() != target {
			if now != "" || hasManifest || len(k.running) > 0 || k.units.Active("kubelet") {
				t.Errorf("%s has data %q, a static pod: %v, and runs %q", k.Name(), now, hasManifest, k.running)
			}
			continue
		}
		members, existing := manifests.EtcdInitialCluster(manifest.Data)
		only := []manifests.Member{{Name: target, PeerURL: nodeOf(k.node).EtcdPeerURL()}}
		if now != data || !slices.Equal(members, only) || !existing {
			t.Errorf("%s has data %q, want %q, and is told of %v (existing: %v)", k.Name(), now, data, members, existing)
		}
		if !k.units.Active("kubelet") || !k.units.Enabled("kubelet") || len(k.running) != len(stoppedPods) {
			t.Errorf("%s runs %q", k.Name(), k.running)
		}
	}
}

var restoreSources = []struct {
	name   string
	source EtcdSource
	target string
	data   string
}{
	{"from a snapshot", snapshotOf("one"), "cp-1", "made of snapshot one"},
	{"from a member", EtcdSource{Member: "cp-2"}, "cp-2", "made of old data of cp-2"},
}

func TestRestoreReplacesTheDataOfAll(t *testing.T) {
	for _, tt := range restoreSources {
		t.Run(tt.name, func(t *testing.T) {
			c, all := controls(t, "cp-1", "cp-2", "cp-3")
			r, err := restore(t, c, tt.source)
			if err != nil {
				t.Fatal(err)
			}
			restored(t, all, tt.target, tt.data)
			for _, k := range all {
				if k.ended[len(k.ended)-1] != manifests.EtcdName {
					t.Errorf("%s: ended in the order %q", k.Name(), k.ended)
				}
				k.ResetRecord()
			}
			again := workflow.Runner{Skip: []string{"wait-control-plane"}}
			if summary, err := again.Run(t.Context(), r.Steps(time.Minute)...); err != nil || summary.Changes > 0 {
				t.Errorf("once more: %d changes, %v", summary.Changes, err)
			}
			kept, err := r.Kept(t.Context())
			folder := []string{config.EtcdDataDir + "/member.before-restore-20270115T080000Z"}
			if diff := cmp.Diff(map[string][]string{"cp-1": folder, "cp-2": folder, "cp-3": folder}, kept); diff != "" || err != nil {
				t.Errorf("kept (-want +got):\n%s%v", diff, err)
			}
			if _, err := new(workflow.Runner).Run(t.Context(), r.Finish()); err != nil {
				t.Error(err)
			}
			for _, k := range all {
				if left := slices.DeleteFunc(k.Paths(config.EtcdDataDir), func(p string) bool { return !strings.Contains(p, restorePrefix) }); len(left) > 0 {
					t.Errorf("%s: %q are left", k.Name(), left)
				}
			}
		})
	}
}

// Whatever is cut off, on whichever host, the next run comes to the same end and loses nothing.
func TestRestoreCarriesOn(t *testing.T) {
	for _, tt := range restoreSources {
		for i, name := range []string{"cp-1", "cp-2"} {
			t.Run(tt.name+", "+name+" cut off", func(t *testing.T) {
				for cut := 0; ; cut++ {
					c, all := controls(t, "cp-1", "cp-2")
					all[i].left = cut
					_, err := restore(t, c, tt.source)
					all[i].left = -1
					if err == nil {
						if cut < 3 {
							t.Errorf("only %d things are done to %s", cut, name)
						}
						restored(t, all, tt.target, tt.data)
						return
					}
					if _, err := restore(t, c, tt.source); err != nil {
						t.Fatalf("after %d things: %v", cut, err)
					}
					restored(t, all, tt.target, tt.data)
				}
			})
		}
	}
}

// A member goes on after an aborted restore: what was copied of its data then is not what is restored later.
func TestRestoreFromAMemberTakesItsDataAnew(t *testing.T) {
	c, all := controls(t, "cp-1")
	all[0].OnPrefix("sh", "-c", moveScript, "sh", config.EtcdDataDir+"/member").Changes().Fail(1, "Input/output error").Once()
	if _, err := restore(t, c, EtcdSource{Member: "cp-1"}); err == nil {
		t.Fatal("the fault went unseen")
	}
	all[0].touch(memberData, 0o600, "newer data")
	if _, err := restore(t, c, EtcdSource{Member: "cp-1"}); err != nil {
		t.Fatal(err)
	}
	if now, kept := all[0].data(); now != "made of newer data" || !slices.Equal(kept, []string{"newer data"}) {
		t.Errorf("%q, kept %q", now, kept)
	}
}

// Once it is finished, a restore of the same snapshot starts anew.
func TestRestoreTwice(t *testing.T) {
	c, all := controls(t, "cp-1")
	r, err := restore(t, c, snapshotOf("one"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := NewEtcdRestore(t.Context(), c, snapshotOf("one")); err != nil || !again.Resume {
		t.Errorf("before it is finished: resumes %v, %v", again.Resume, err)
	}
	run(t, r.Finish())
	all[0].touch(memberData, 0o600, "what came after")
	later := testNow.Add(time.Hour)
	c.Now = func() time.Time { return later }
	if r, err = restore(t, c, snapshotOf("one")); err != nil || r.Resume {
		t.Fatalf("resumes %v, %v", r.Resume, err)
	}
	if now, kept := all[0].data(); now != "made of snapshot one" || !slices.Equal(kept, []string{"old data of cp-1", "what came after"}) {
		t.Errorf("%q, kept %q", now, kept)
	}
}

// When one host does not stop, no data is touched anywhere.
func TestRestoreStopsWhenAHostDoes(t *testing.T) {
	c, all := controls(t, "cp-1", "cp-2")
	all[1].OnPrefix("sh", "-c", endTaskScript, "sh", "id-of-etcd").Changes().Error(errors.New("connection lost"))
	_, err := restore(t, c, snapshotOf("one"))
	if err == nil || !strings.Contains(err.Error(), "stop-control-plane: cp-2: stop etcd: connection lost") {
		t.Errorf("got %v", err)
	}
	for _, k := range all {
		if now, kept := k.data(); now != "old data of "+k.Name() || len(kept) > 0 {
			t.Errorf("%s has %q and keeps %q", k.Name(), now, kept)
		}
	}
}

func TestRestoreChoosesItsTarget(t *testing.T) {
	tests := []struct {
		name    string
		source  EtcdSource
		prepare func(c *cluster.Cluster, all []*control)
		target  string
		others  []string
		want    string // of an error
	}{
		{"the first of the document", snapshotOf("one"), nil, "cp-1", []string{"cp-2", "cp-3"}, ""},
		{"not one that was wiped", snapshotOf("one"), func(_ *cluster.Cluster, all []*control) { all[0].wipe() }, "cp-2", []string{"cp-3"}, ""},
		{"not one without certificates", snapshotOf("one"), func(_ *cluster.Cluster, all []*control) {
			all[0].Delete(config.PKIDir + "/etcd/peer.key")
		}, "cp-2", []string{"cp-1", "cp-3"}, ""},
		{"the one where an earlier run got further", snapshotOf("one"), func(_ *cluster.Cluster, all []*control) {
			all[1].Mkdir(newRestoreFolder(config.EtcdDataDir, snapshotOf("one")).made(), 0o700)
		}, "cp-2", []string{"cp-1", "cp-3"}, ""},
		{"the member that is named", EtcdSource{Member: "cp-3"}, nil, "cp-3", []string{"cp-1", "cp-2"}, ""},
		{"a member without data", EtcdSource{Member: "cp-3"}, func(_ *cluster.Cluster, all []*control) { all[2].Delete(config.EtcdDataDir) },
			"", nil, "cp-3: /var/lib/etcd/member/snap/db is not there"},
		{"a member that is not there", EtcdSource{Member: "cp-9"}, nil, "", nil, "there is no control plane cp-9 that could be restored"},
		{"nobody is left", snapshotOf("one"), func(_ *cluster.Cluster, all []*control) {
			for _, k := range all {
				k.wipe()
			}
		}, "", nil, "there is no control plane that could be restored"},
		{"external etcd", snapshotOf("one"), func(c *cluster.Cluster, _ []*control) { c.Config.Spec.Etcd.External = &config.ExternalEtcd{} },
			"", nil, "etcd is external"},
		{"a host that does not answer", snapshotOf("one"), func(_ *cluster.Cluster, all []*control) { all[2].Lose(errors.New("gone")) },
			"", nil, "cp-3: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, all := controls(t, "cp-1", "cp-2", "cp-3")
			if tt.prepare != nil {
				tt.prepare(c, all)
			}
			r, err := NewEtcdRestore(t.Context(), c, tt.source)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %s", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var others []string
			for _, n := range r.Others {
				others = append(others, n.Spec.Name)
			}
			if r.Target.Spec.Name != tt.target || !slices.Equal(others, tt.others) {
				t.Errorf("%s, and %q, want %s and %q", r.Target.Spec.Name, others, tt.target, tt.others)
			}
			for _, k := range all {
				if len(k.Writes())+len(k.Removed()) > 3*len(stoppedPods) {
					t.Errorf("%s was changed", k.Name())
				}
			}
		})
	}
}

// wipe makes a bare host of it.
func (k *control) wipe() {
	k.Delete(config.KubernetesDir)
	k.Delete(config.EtcdDataDir)
}

// members runs real members of etcd, and gives each a host with its address and its files.
func members(t *testing.T, names ...string) (*cluster.Cluster, []*etcdtest.Member, []*control) {
	c, all := controls(t, names...)
	pki := etcdtest.NewTLS(t)
	var started []*etcdtest.Member
	for i, k := range all {
		m := pki.Member(k.Name())
		k.node.Spec.AdvertiseAddress = m.Address.String()
		for file, data := range m.PKI() {
			k.Put(host.File{Path: file, Mode: 0o600, Data: data})
		}
		k.OnDial(new(net.Dialer).DialContext)
		if i > 0 {
			client, err := c.Etcd(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			added, err := client.AddLearner(t.Context(), m.PeerURL())
			if err != nil {
				t.Fatal(err)
			}
			m.Start(started...)
			if err := client.Promote(t.Context(), added.ID); err != nil {
				t.Fatal(err)
			}
		} else {
			m.Start()
		}
		started = append(started, m)
	}
	t.Cleanup(func() { c.Close() })
	return c, started, all
}

// A member that runs on a host that was not reached would go on with the old data.
func TestRestoreRefusesWhileAStrangerLives(t *testing.T) {
	c, started, _ := members(t, "cp-1", "cp-2")
	reached := *c.Nodes[0]
	c.Nodes = []*cluster.Node{&reached}
	_, err := NewEtcdRestore(t.Context(), c, snapshotOf("one"))
	if err == nil || !strings.Contains(err.Error(), "etcd member cp-2 at "+started[1].PeerURL()+" is alive, and its host was not reached") {
		t.Errorf("got %v", err)
	}
	started[1].Stop()
	if _, err := NewEtcdRestore(t.Context(), c, snapshotOf("one")); err != nil {
		t.Errorf("when it has stopped: %v", err)
	}
}

// Whoever was not there when the others lost their data has to be reset before it joins.
func TestRejoin(t *testing.T) {
	c, _, all := members(t, "cp-1")
	_, more := controls(t, "cp-1", "cp-2", "cp-3")
	for _, k := range more[1:] {
		all = append(all, k)
		c.Nodes = append(c.Nodes, k.node)
	}
	r, err := NewEtcdRestore(t.Context(), c, snapshotOf("one"))
	if err != nil {
		t.Fatal(err)
	}
	all[1].Delete(config.ManifestsDir) // it was set aside
	joiners, strangers, err := r.Rejoin(t.Context())
	if err != nil || len(joiners) != 1 || joiners[0] != all[1].node || len(strangers) != 1 || strangers[0] != all[2].node {
		t.Errorf("%v join, %v are strangers, %v", joiners, strangers, err)
	}
}
