package sshdtest

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pkg/sftp"
)

// serveVariable makes the test's own program an sftp-server.
const serveVariable = "MYADM_SSHDTEST_SFTP_SERVER"

func init() {
	if os.Getenv(serveVariable) == "" {
		return
	}
	server, err := sftp.NewServer(stdio{os.Stdin, os.Stdout})
	if err == nil {
		err = server.Serve()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

type stdio struct {
	io.Reader
	io.WriteCloser
}
