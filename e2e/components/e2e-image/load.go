package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/myadm/myadm/e2e/components/e2e-image/load"
)

// settle is how long the end of a load may take: the last reads, and the watch's last events.
const settle = 20 * time.Second

// namespaceFile is where a pod finds the name of its namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// putLoad puts a load on the cluster whose pod this is, as any pod would: by the Service of the API, with the service
// account and client-go's defaults, but for the number of requests in a second that it holds back itself.
func putLoad(ctx context.Context, out io.Writer, name, address string, timeout time.Duration) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	config.QPS = -1
	namespace, err := os.ReadFile(namespaceFile)
	if err != nil {
		return err
	}
	client, err := corev1client.NewForConfig(config)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx)) // it is asked to end, and not cut off
	defer end()
	l := load.Start(running, load.Options{Client: client.ConfigMaps(string(namespace)), Name: name, Timeout: timeout})
	ended := make(chan error, 1)
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: loadHandler(l)}
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	limited, cancel := context.WithTimeout(running, settle)
	defer cancel()
	result, err := l.Stop(limited)
	return errors.Join(json.NewEncoder(out).Encode(result), err, server.Close())
}

// loadHandler answers GET /lap with what was seen since the last lap, and GET /stop, which ends the load, with the whole:
// each one line of JSON.
func loadHandler(l *load.Load) http.Handler {
	answer := func(w http.ResponseWriter, result load.Result) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(result) // to whoever still listens
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /lap", func(w http.ResponseWriter, _ *http.Request) { answer(w, l.Lap()) })
	mux.HandleFunc("GET /stop", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), settle)
		defer cancel()
		result, err := l.Stop(ctx)
		if err != nil {
			http.Error(w, fmt.Sprintf("%v after %+v", err, result), http.StatusInternalServerError)
			return
		}
		answer(w, result)
	})
	return mux
}
