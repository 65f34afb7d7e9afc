// Command run starts a local cluster and keeps it until Ctrl-C.
//
// It owns the flags and what is printed; the cluster is package cluster's.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"k8s-reloader/e2e/cluster"
)

const help = `Starts a real Kubernetes control plane on this machine and keeps it until Ctrl-C:
etcd, API server, controller manager, scheduler, and kwok for nodes and pods.
Nothing but Go is needed. The first start builds the programs, which takes
minutes; later ones take seconds. Everything listens on loopback only.

Pods look as if they ran: Deployments become available and roll, but no
container exists. To have the pods of an image really run, say which program on
this machine stands for it with --image: its pods then run with their own
address, ServiceAccount token, probes and logs, and their Services are
reachable at ClusterIP:port from this machine.

Environment:
  RELOADER_CLUSTER_CACHE  where the built programs are kept
                          (default: k8s-reloader/cluster in your cache folder)
  KUBEBUILDER_ASSETS      a folder with etcd, kube-apiserver or kubectl that
                          need not be built`

const examples = `  # a cluster to try things in
  go run ./e2e/cluster/run

  # and one in which the pods of the image reloader:dev run
  go build -o /tmp/reloader ./cmd/reloader
  go run ./e2e/cluster/run --image reloader:dev=/tmp/reloader`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1) //nolint:gocritic // the deferred stop only restores signals
	}
}

func command() *cobra.Command {
	var o cluster.Options
	var images []string
	cmd := &cobra.Command{
		Use:           "run",
		Short:         "Run a local cluster until Ctrl-C",
		Long:          help,
		Example:       examples,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Images, err = parseImages(images); err != nil {
				return err
			}
			o.Log = cmd.ErrOrStderr()
			return run(cmd.Context(), cmd.OutOrStdout(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&images, "image", nil, "run the pods of an image with a program, as `IMAGE=PROGRAM`; repeatable")
	flags.StringVar(&o.Dir, "dir", "", "keep state and logs in this folder (default: a temporary one, removed at the end)")
	flags.IntVar(&o.Nodes, "nodes", 1, "number of nodes")
	flags.BoolVar(&o.CompleteJobs, "complete-jobs", false, "end the pods of Jobs with success as soon as they run")
	flags.StringArrayVar(&o.AuditUsers, "audit-user", nil, "log every request of this `USER`, such as system:serviceaccount:NAMESPACE:NAME; repeatable")
	return cmd
}

func run(ctx context.Context, out io.Writer, o cluster.Options) error {
	c, err := cluster.Start(ctx, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `
The cluster is ready. In another terminal:

  export KUBECONFIG=%s
  alias kubectl=%s
  alias helm=%s
  kubectl get nodes

Logs of the components: %s/logs
`, c.Kubeconfig(), c.Program("kubectl"), c.Program("helm"), c.Dir())
	if len(o.Images) > 0 {
		fmt.Fprintf(out, "Logs of the pods: %s/pods\n", c.Dir())
	}
	if len(o.AuditUsers) > 0 {
		fmt.Fprintf(out, "Audit log: %s\n", c.AuditLog())
	}
	fmt.Fprintln(out, "\nCtrl-C stops the cluster and forgets everything in it.")

	err = c.Wait(ctx)
	fmt.Fprintln(out, "\nstopping")
	return errors.Join(err, c.Stop())
}

func parseImages(pairs []string) (map[string]string, error) {
	images := map[string]string{}
	for _, pair := range pairs {
		image, program, ok := strings.Cut(pair, "=")
		if !ok || image == "" || program == "" {
			return nil, fmt.Errorf("--image %q is not IMAGE=PROGRAM", pair)
		}
		images[image] = program
	}
	return images, nil
}
