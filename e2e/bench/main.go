package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/install"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench: "+err.Error())
		stop()
		os.Exit(1) //nolint:gocritic // stop has been called
	}
}

// options of a run.
type options struct {
	only   []string
	write  string
	rounds int
}

// parts of the benchmark, in the order in which they run.
func parts() []part {
	return []part{
		{"latency", "change to rollout, against a program that only patches", latency},
		{"flat", "cost of a change at 20,000 workloads, against that at 1,000", flat},
		{"takeover", "time until the other replica reloads when the leader ends", takeOver},
		{"start", "time, CPU and memory to be ready, against a program that only lists", start},
		{"admission", "admission of a Deployment, against one that the webhook does not see", admission},
	}
}

type part struct {
	name  string
	about string
	run   func(ctx context.Context, b *bench) error
}

func newCommand() *cobra.Command {
	var o options
	names := make([]string, 0, len(parts()))
	var about strings.Builder
	for _, p := range parts() {
		names = append(names, p.name)
		fmt.Fprintf(&about, "  %-10s %s\n", p.name, p.about)
	}
	cmd := &cobra.Command{
		Use:           "bench",
		Short:         "Measure the product beside a floor, on a local cluster",
		Long:          "Measure the product beside a floor, on a local cluster of its own.\n\nThe parts:\n" + about.String(),
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range o.only {
				if !slices.Contains(names, name) {
					return fmt.Errorf("--only=%s: use %s", name, strings.Join(names, ", "))
				}
			}
			if o.rounds < 1 {
				return fmt.Errorf("--rounds=%d: use 1 or more", o.rounds)
			}
			return run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringSliceVar(&o.only, "only", nil, "parts to run (default all)")
	cmd.Flags().StringVar(&o.write, "write", "", "file to write the table into, between its markers")
	cmd.Flags().IntVar(&o.rounds, "rounds", 5, "how often each burst and fan-out is repeated")
	cmd.AddCommand(newFloorCommand())
	return cmd
}

// bench is what the parts share.
type bench struct {
	options
	program string
	table   table
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "reloader-bench-")
	if err != nil {
		return fmt.Errorf("make a folder for the program: %w", err)
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	b := &bench{options: o}
	if b.program, err = install.Build(ctx, install.BuildOptions{Dir: dir, Log: os.Stderr}); err != nil {
		return err
	}
	for _, p := range parts() {
		if len(o.only) > 0 && !slices.Contains(o.only, p.name) {
			continue
		}
		b.say("== %s: %s", p.name, p.about)
		if err := p.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	text := b.table.markdown()
	fmt.Print(text)
	if o.write != "" {
		return replaceBetweenMarkers(o.write, text)
	}
	return nil
}

// withCluster runs do on a cluster of its own.
func (b *bench) withCluster(ctx context.Context, o cluster.Options, do func(*cluster.Cluster) error) (err error) {
	o.Log = os.Stderr
	c, err := cluster.Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		if stopErr := c.Stop(); err == nil {
			err = stopErr
		}
	}()
	return do(c)
}
