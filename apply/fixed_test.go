package apply

import (
	"strings"
	"testing"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
)

func TestCheckFixed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(spec *config.Spec)
		want   []string // parts of the error; none: it is fine
	}{
		{"the same document", func(*config.Spec) {}, nil},
		{"what may change", func(spec *config.Spec) {
			spec.APIServer.ExtraArgs = []config.Arg{{Name: "v", Value: "4"}}
			spec.ImageRepository = "registry.example.org"
		}, nil},
		{"networks", func(spec *config.Spec) {
			spec.Networking.PodSubnet, spec.Networking.ServiceSubnet = "10.99.0.0/16", "10.98.0.0/16"
		}, []string{
			"spec.networking.serviceSubnet: the cluster has 10.96.0.0/16, and the document wants 10.98.0.0/16: it cannot be changed in a running cluster, since ",
			"spec.networking.podSubnet: the cluster has 10.244.0.0/16, and the document wants 10.99.0.0/16", "; hint: write 10.244.0.0/16 again, or make a new cluster",
		}},
		{"the domain", func(spec *config.Spec) { spec.Networking.DNSDomain = "example.org" }, []string{"spec.networking.dnsDomain: "}},
		{"the port", func(spec *config.Spec) { spec.APIServerPort = 7443 }, []string{"spec.apiServerPort: the cluster has 6443"}},
		{"etcd's folder", func(spec *config.Spec) { spec.Etcd.DataDir = "/data/etcd" }, []string{"spec.etcd.dataDir: the cluster has /var/lib/etcd"}},
		{"an etcd elsewhere", func(spec *config.Spec) {
			spec.Etcd.External = &config.ExternalEtcd{Endpoints: []string{"https://etcd.example.org:2379"}}
		}, []string{"spec.etcd.external: the cluster has a stacked etcd"}},
		{"no etcd elsewhere any more", func(*config.Spec) {}, []string{"spec.etcd: the cluster has the etcd https://etcd.example.org:2379"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, fakes := document(t, "cp-1")
			external := strings.HasPrefix(tt.name, "no etcd elsewhere")
			if external {
				c.Config.Spec.Etcd.External = &config.ExternalEtcd{Endpoints: []string{"https://etcd.example.org:2379"}}
			}
			files, err := phases.StaticPodFiles(t.Context(), c, c.Nodes[0])
			if err != nil {
				t.Fatal(err)
			}
			node(fakes[0], "v1.37.2", true)
			for _, f := range files {
				fakes[0].Put(f)
			}
			fakes[0].Delete(config.AdminConf) // there is nobody to ask in this test
			if external {
				c.Config.Spec.Etcd.External = nil
			}
			tt.change(&c.Config.Spec)
			err = CheckFixed(t.Context(), c, &State{Founder: c.Nodes[0], Members: c.Nodes})
			if len(tt.want) == 0 && err != nil {
				t.Errorf("it is refused: %v", err)
			}
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %v", want, err)
				}
			}
			fakes[0].Delete(manifests.StaticPodPath(manifests.APIServerName))
			if err := CheckFixed(t.Context(), c, &State{Founder: c.Nodes[0]}); err != nil {
				t.Errorf("of a cluster that is to be made: %v", err)
			}
		})
	}
}

// Every control plane is asked where its etcd is, and one of which nobody can tell keeps nobody from being told of the others.
func TestCheckFixedOfAddresses(t *testing.T) {
	c, fakes := document(t, "cp-1", "cp-2", "cp-3", "w-1")
	for i, n := range c.Nodes[:3] {
		files, err := phases.StaticPodFiles(t.Context(), c, n)
		if err != nil {
			t.Fatal(err)
		}
		node(fakes[i], "v1.37.2", true)
		for _, f := range files {
			fakes[i].Put(f)
		}
		fakes[i].Delete(config.AdminConf) // there is nobody to ask in this test
	}
	s := &State{Founder: c.Nodes[0], Members: c.Nodes}
	if err := CheckFixed(t.Context(), c, s); err != nil {
		t.Errorf("it is refused: %v", err)
	}
	c.Nodes[2].Spec.AdvertiseAddress, c.Nodes[3].Spec.AdvertiseAddress = "10.1.0.3", "10.1.0.4"
	put(fakes[1], manifests.StaticPodPath(manifests.EtcdName), "[")
	const want = "spec.hosts, advertiseAddress of cp-3: the cluster has 10.0.0.3, and the document wants 10.1.0.3: it cannot be changed in a running cluster, " +
		"since the members of etcd know each other by it; hint: write 10.0.0.3 again, or take the host out with myadm reset and in again"
	if err := CheckFixed(t.Context(), c, s); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestFlagsOf(t *testing.T) {
	got := flagsOf([]byte("spec: {containers: [{command: [kube-apiserver, --a=b=c, --d], args: [--e=f]}]}"))
	if len(got) != 2 || got["a"] != "b=c" || got["e"] != "f" {
		t.Errorf("got %v", got)
	}
	if got := flagsOf([]byte("[")); got != nil {
		t.Errorf("of what is no pod: %v", got)
	}
}
