package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
)

// hostKeyPath is where sshd has its key.
const hostKeyPath = "/etc/ssh/ssh_host_ed25519_key"

// identity is what the hosts of a lab have to know of its user.
type identity struct {
	authorizedKey string // one line, with its line break
	password      string // of UserSudoWithPwd
}

// ensureIdentity reads the lab's key and password from its folder, or makes them.
func (l *Lab) ensureIdentity() (identity, error) {
	private, err := readOrMake(l.Path(KeyFile), func() ([]byte, error) { return newKey("lab-" + l.id) })
	if err != nil {
		return identity{}, err
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return identity{}, fmt.Errorf("%s: %w; hint: remove it and run lab up again", l.Path(KeyFile), err)
	}
	password, err := readOrMake(l.Path(PasswordFile), func() ([]byte, error) { return []byte(rand.Text() + "\n"), nil })
	if err != nil {
		return identity{}, err
	}
	return identity{
		authorizedKey: string(ssh.MarshalAuthorizedKey(signer.PublicKey())),
		password:      strings.TrimSpace(string(password)),
	}, nil
}

// readOrMake reads a secret file, or makes it so that it is complete as soon as it is there.
func readOrMake(path string, content func() ([]byte, error)) ([]byte, error) {
	data, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if data, err = content(); err != nil {
		return nil, err
	}
	return data, writeFile(path, data, 0o600)
}

// newKey makes a private key in OpenSSH's format.
func newKey(comment string) ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

// deliver puts files on a host, which may be off.
func (l *Lab) deliver(ctx context.Context, h Host, files []delivery) error {
	archive, err := pack(files)
	if err != nil {
		return err
	}
	if _, err := l.d.run(ctx, archive, "cp", "-", h.container+":/"); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return nil
}

// delivery is a file for a host, owned by uid and a group of the same number.
type delivery struct {
	path string // absolute
	mode int64
	uid  int
	data []byte
}

// fetch reads a file of a host, which may be off.
func (l *Lab) fetch(ctx context.Context, h Host, path string) ([]byte, error) {
	packed, err := l.d.run(ctx, nil, "cp", h.container+":"+path, "-")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.Name, err)
	}
	archive := tar.NewReader(strings.NewReader(packed))
	if _, err := archive.Next(); err != nil {
		return nil, fmt.Errorf("%s of %s: %w", path, h.Name, err)
	}
	return io.ReadAll(archive)
}

// newMachine makes what no two machines share: the machine-id, and the files of sshd's key, whose public half it returns.
func newMachine(private []byte) ([]delivery, string, error) {
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return nil, "", err
	}
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	machineID := make([]byte, 16)
	if _, err := rand.Read(machineID); err != nil {
		return nil, "", err
	}
	return []delivery{
		{path: "/etc/machine-id", mode: 0o444, data: []byte(hex.EncodeToString(machineID) + "\n")},
		{path: hostKeyPath, mode: 0o600, data: private},
		{path: hostKeyPath + ".pub", mode: 0o644, data: []byte(public + "\n")},
	}, public, nil
}

// userFiles are what lets the lab's user in, and the hosts know each other by name.
func (l *Lab) userFiles(id identity) []delivery {
	files := []delivery{
		{path: "/etc/lab/hosts", mode: 0o644, data: []byte(renderHosts(l.Hosts))},
		{path: "/etc/lab/passwords", mode: 0o600, data: []byte(UserSudoWithPwd + ":" + id.password + "\n")},
	}
	// The numbers are those that image/setup.sh gives.
	for _, user := range []struct {
		home string
		uid  int
	}{{"/root", 0}, {"/home/" + UserSudo, 1001}, {"/home/" + UserSudoWithPwd, 1002}} {
		files = append(files,
			delivery{path: user.home + "/.ssh/", mode: 0o700, uid: user.uid},
			delivery{path: user.home + "/.ssh/authorized_keys", mode: 0o600, uid: user.uid, data: []byte(id.authorizedKey)})
	}
	return files
}

// pack makes a tar archive. A path that ends with a slash is a folder.
func pack(files []delivery) (io.Reader, error) {
	var buf bytes.Buffer
	archive := tar.NewWriter(&buf)
	for _, f := range files {
		header := &tar.Header{
			Name: strings.TrimPrefix(f.path, "/"), Mode: f.mode, Uid: f.uid, Gid: f.uid, Size: int64(len(f.data)),
			Typeflag: tar.TypeReg,
		}
		if strings.HasSuffix(f.path, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(f.data); err != nil {
			return nil, err
		}
	}
	return &buf, archive.Close()
}
