package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// newRootCommand returns the whole command line. The root itself is the
// engine, so that command lines of Reloader 1 keep working.
func newRootCommand() *cobra.Command {
	engine := newEngineCommand()
	root := newEngineCommand()
	root.Use = "reloader"
	root.Short = "Restart workloads when the ConfigMaps and Secrets that they use change"
	root.Long = `Reloader starts the pods of a workload anew when the ConfigMaps and Secrets that it
uses change, or what the Secrets Store CSI driver mounts for it. Workloads are
Deployments, StatefulSets, DaemonSets, CronJobs, Jobs, Argo Rollouts and OpenShift's
DeploymentConfigs. One opts in with an annotation:

  kubectl annotate deployment NAME reloader.stakater.com/auto=true

It runs as two processes. The webhook works out at admission what a workload
references and tells about annotations that will not do what they say. The
engine watches, and patches the workloads whose sources have changed. Without
a subcommand, this is the engine. It is complete without the webhook.`
	root.Example = `  # run the engine against the cluster of your kubeconfig
  reloader

  # check manifests before they are applied
  reloader lint deploy/ && kubectl apply -f deploy/`
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.AddCommand(engine, newWebhookCommand(), newLintCommand(), newVersionCommand())
	return root
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "reloader %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
