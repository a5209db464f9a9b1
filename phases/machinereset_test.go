package phases

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/manifests"
)

// mount makes a folder a mount point, once more if it is one already.
func (m *machine) mount(path string) {
	m.Mount(path)
	m.mounts = append(m.mounts, path)
}

// installReset registers what reset asks and does beyond units and containerd.
func (m *machine) installReset() {
	m.OnPrefix("sh", "-c", presentScript, "sh").Do(m.present)
	m.OnPrefix("sh", "-c", tidyScript, "sh").Changes().Do(m.tidy)
	m.OnPrefix("sh", "-c", removeEmptyScript, "sh").Changes().Do(m.tidy)
	m.OnPrefix("sh", "-c", ourRegistriesScript, "sh").Do(func(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		var ours []string
		for _, p := range f.Paths(cmd.Argv[4]) {
			if file, ok := f.Get(p); ok && path.Dir(path.Dir(p)) == cmd.Argv[4] && strings.HasPrefix(string(file.Data), cmd.Argv[5]) {
				ours = append(ours, p)
			}
		}
		return lines(ours), nil
	})
	m.On("sh", "-c", forgetScript).Changes().Do(func(f *hosttest.Fake, _ host.Cmd) ([]byte, error) {
		return f.Run(context.Background(), host.Command("systemctl", "daemon-reload"))
	})
	// systemd starts the unit again later, or not at all if it is stopped by then.
	m.On("systemctl", "kill", "--signal=KILL", "containerd.service").Changes().Do(func(*hosttest.Fake, host.Cmd) ([]byte, error) { return nil, nil })
	m.On("cat", "/proc/self/mountinfo").Do(m.mountinfo)
	m.OnPrefix("umount", "--lazy").Changes().Do(m.umount)
	m.OnPrefix("ip", "link", "delete").Changes().Do(func(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		f.Delete("/sys/class/net/" + cmd.Argv[3])
		return nil, nil
	})
}

// present is presentScript.
func (m *machine) present(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
	paths := cmd.Argv[4:]
	folders := append(slices.Clone(besides), packagedBin+"/"+besideName)
	for _, p := range f.Paths("/") {
		beside := slices.ContainsFunc(folders, func(pattern string) bool { matches, _ := path.Match(pattern, p); return matches })
		if path.Dir(p) == path.Dir(podNetworks) && strings.HasPrefix(p, podNetworks) || beside {
			paths = append(paths, p)
		}
	}
	infos, err := f.Stat(context.Background(), paths...)
	var there []string
	for _, info := range infos {
		if info.Exists && (!slices.Contains(m.mounts, info.Path) || len(f.Paths(info.Path)) > 0) {
			there = append(there, info.Path)
		}
	}
	return lines(there), err
}

// tidy is tidyScript, and removeEmptyScript.
func (m *machine) tidy(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
	folders := cmd.Argv[4:]
	if cmd.Argv[2] == tidyScript {
		folders = append(f.Paths(manifests.RegistriesDir), folders...)
	}
	for _, dir := range folders {
		if _, isFile := f.Get(dir); isFile {
			continue
		}
		if len(f.Paths(dir)) == 0 && !slices.Contains(m.mounts, dir) {
			f.Delete(dir)
		}
	}
	return nil, nil
}

// mountinfo is /proc/self/mountinfo; the kernel writes blanks as octal numbers.
func (m *machine) mountinfo(*hosttest.Fake, host.Cmd) ([]byte, error) {
	b := strings.Builder{}
	b.WriteString("22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n")
	for i, path := range m.mounts {
		fmt.Fprintf(&b, "%d 22 0:%d / %s rw,relatime shared:%d - tmpfs tmpfs rw\n", i+30, i+30, strings.ReplaceAll(path, " ", `\040`), i+30)
	}
	return []byte(b.String()), nil
}

// umount takes away the uppermost mount at each path. It refuses what has another below: a lazy umount(8) would not, but
// takes those with it, so that they are not there when their turn comes.
func (m *machine) umount(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
	for _, path := range cmd.Argv[2:] {
		i := slices.Index(m.mounts, path)
		below := slices.ContainsFunc(m.mounts, func(other string) bool { return strings.HasPrefix(other, path+"/") })
		if i < 0 || below {
			return nil, &host.ExitError{Argv: cmd.Argv, Code: 32, Stderr: []byte("umount: " + path + ": not mounted.")}
		}
		m.mounts = slices.Delete(m.mounts, i, i+1)
		if !slices.Contains(m.mounts, path) {
			f.Unmount(path)
		}
	}
	return nil, nil
}
