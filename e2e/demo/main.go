package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/install"
)

const help = `Starts a real Kubernetes control plane on this machine, installs Reloader with
its Helm chart, and shows how an edit of a ConfigMap or a Secret becomes a
rollout, and what admission says about manifests that will not do what they say.
Nothing but Go is needed. The first start builds the control plane, which takes
minutes; later ones take seconds. Everything listens on loopback only, and is
stopped and forgotten at the end.

The exit status is 1 if a step does not do what it says.`

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		return 1
	}
	return 0
}

func command() *cobra.Command {
	keep := false
	cmd := &cobra.Command{
		Use:           "demo",
		Short:         "Show Reloader at work on a cluster of its own",
		Long:          help,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return (&demo{screen: &screen{out: cmd.OutOrStdout()}, keep: keep}).show(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the cluster running after the last step, until Ctrl-C")
	return cmd
}

// demo is one run. Its parts come into being as the steps go.
type demo struct {
	*screen
	keep    bool
	program string
	cluster *cluster.Cluster
	release *install.Release
}

// show does all steps, keeps the cluster if that was asked for, and stops it.
func (d *demo) show(ctx context.Context) (err error) {
	defer func() {
		if d.cluster != nil {
			err = errors.Join(err, d.cluster.Stop())
		}
	}()
	began := time.Now()
	steps := d.steps()
	for i, s := range steps {
		stepBegan := time.Now()
		d.heading(fmt.Sprintf("%d/%d  %s", i+1, len(steps), s.title), s.what)
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, s.title, err)
		}
		d.say("done in %s", seconds(time.Since(stepBegan)))
	}
	d.heading(fmt.Sprintf("All %d steps did what they say, in %s.", len(steps), seconds(time.Since(began))), "")
	if !d.keep {
		d.whatNow()
		return nil
	}
	d.whatNext()
	if err := d.cluster.Wait(ctx); err != nil {
		return err
	}
	d.say("\nstopping")
	return nil
}

func (d *demo) whatNow() {
	d.text(`What to try next:

  go run ./e2e/demo --keep       the same, and the cluster stays for you to try things
  go run ./cmd/reloader lint e2e/demo/manifests
                                 what admission says, without a cluster
  go run ./cmd/reloader --help   what can be set
`)
}

func (d *demo) whatNext() {
	d.text(fmt.Sprintf(`The cluster is yours. In another terminal, from this folder:

  export KUBECONFIG=%[1]s
  alias kubectl=%[2]s
  alias helm=%[3]s

What to try next:

  # another rollout, and see it happen
  kubectl edit configmap shop-settings -n %[4]s
  kubectl get replicasets -n %[4]s --watch

  # what the product says (kubectl logs would need a kubelet)
  tail -f %[5]s/pods/%[6]s_*.log

  # without the webhook everything works, with a read more here and there
  kubectl scale deployment %[7]s -n %[6]s --replicas=0

  # what was a warning becomes a denial
  helm upgrade reloader charts/reloader -n %[6]s --reuse-values --set webhook.mode=strict
  kubectl apply -n default -f e2e/demo/manifests/conflicting.yaml

Ctrl-C stops the cluster and forgets everything in it.
`, d.cluster.Kubeconfig(), d.cluster.Program("kubectl"), d.cluster.Program("helm"),
		namespace, d.cluster.Dir(), d.release.Namespace, d.release.Webhook))
}
