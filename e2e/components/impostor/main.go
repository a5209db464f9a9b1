// Command impostor takes a component's place, as a build of it that went wrong: it has the component's name and tells its
// version. As kube-apiserver it starts, lives, and never becomes ready. As anything else it ends at once.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// version is the component's, set by the linker: "Kubernetes v1.37.2".
var version string

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println(version)
		return
	}
	name := filepath.Base(os.Args[0])
	if name != "kube-apiserver" {
		fmt.Fprintf(os.Stderr, "impostor: panic: %s cannot read its own data\n", name)
		os.Exit(1)
	}
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "impostor:", err)
		os.Exit(1)
	}
}

// serve answers where the API server would, and with its certificate, that it lives and is not ready.
func serve(args []string) error {
	flags := map[string]string{}
	for _, arg := range args {
		name, value, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		flags[name] = value
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "[-]poststarthook/impostor failed: not finished", http.StatusInternalServerError)
	})
	server := &http.Server{Addr: net.JoinHostPort("", flags["secure-port"]), Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	fmt.Fprintln(os.Stderr, "impostor: serving, and never ready")
	return server.ListenAndServeTLS(flags["tls-cert-file"], flags["tls-private-key-file"])
}
