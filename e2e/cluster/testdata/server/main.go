// Command server is the image of the pod runner's tests: it shows what it was
// started with, and what its ServiceAccount may do.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ended by SIGTERM")
}

func serve(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	var unready atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if unready.Load() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /unready", func(http.ResponseWriter, *http.Request) { unready.Store(true) })
	mux.HandleFunc("GET /exit", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	mux.HandleFunc("GET /about", func(w http.ResponseWriter, r *http.Request) {
		about := map[string]string{
			"args":       strings.Join(os.Args[1:], " "),
			"configMaps": answer(client.CoreV1().ConfigMaps(os.Getenv("POD_NAMESPACE")).List(r.Context(), metav1.ListOptions{})),
			"secrets":    answer(client.CoreV1().Secrets(os.Getenv("POD_NAMESPACE")).List(r.Context(), metav1.ListOptions{})),
		}
		for _, pair := range os.Environ() {
			name, value, _ := strings.Cut(pair, "=")
			about[name] = value
		}
		if err := json.NewEncoder(w).Encode(about); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	})
	server := &http.Server{
		Addr:              net.JoinHostPort(os.Getenv("POD_IP"), "8080"),
		Handler:           mux,
		ReadHeaderTimeout: time.Second,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	fmt.Println("listening on", server.Addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func answer(_ any, err error) string {
	switch {
	case err == nil:
		return "allowed"
	case apierrors.IsForbidden(err):
		return "forbidden"
	default:
		return err.Error()
	}
}
