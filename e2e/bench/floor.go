package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/clientcmd"

	"k8s-reloader/reloader/api"
)

// newFloorCommand returns the floor of a start, run as a process of its own so
// that its memory and CPU can be read like the engine's: it lists the metadata
// of everything that an engine has to know of, keeps nothing, and is ready.
func newFloorCommand() *cobra.Command {
	var kubeconfig, address string
	cmd := &cobra.Command{
		Use:    "floor",
		Short:  "List the metadata that an engine needs, keep nothing, and wait",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", address)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			var done atomic.Bool
			parts, ctx := errgroup.WithContext(cmd.Context())
			parts.Go(func() error {
				return api.Serve(ctx, l, api.Handler(func() error {
					if !done.Load() {
						return errors.New("listing")
					}
					return nil
				}, prometheus.NewRegistry()))
			})
			parts.Go(func() error {
				if err := listEverything(ctx, kubeconfig); err != nil {
					return err
				}
				done.Store(true)
				return nil
			})
			return parts.Wait()
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	cmd.Flags().StringVar(&address, "listen-address", "", "where to answer /readyz")
	return cmd
}

func listEverything(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	config.QPS = -1
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("set up the client: %w", err)
	}
	lists, ctx := errgroup.WithContext(ctx)
	for _, resource := range []schema.GroupVersionResource{
		{Group: "apps", Version: "v1", Resource: "deployments"},
		{Group: "apps", Version: "v1", Resource: "statefulsets"},
		{Group: "apps", Version: "v1", Resource: "daemonsets"},
		{Version: "v1", Resource: "configmaps"},
		{Version: "v1", Resource: "secrets"},
	} {
		lists.Go(func() error {
			options := metav1.ListOptions{Limit: 500}
			for {
				list, err := client.Resource(resource).List(ctx, options)
				if err != nil {
					return fmt.Errorf("list %s: %w", resource.Resource, err)
				}
				if list.Continue == "" {
					return nil
				}
				options.Continue = list.Continue
			}
		})
	}
	return lists.Wait()
}
