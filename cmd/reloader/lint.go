package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/lint"
	"k8s-reloader/reloader/policy"
)

// errRejected means that admission would deny an object, or that something could
// not be read. The details have been printed.
var errRejected = errors.New("manifests rejected")

// lintFlags are what the lint command line says.
type lintFlags struct {
	settings  settingsFlags
	admission string
	output    string
}

func newLintCommand() *cobra.Command {
	f := new(lintFlags)
	cmd := &cobra.Command{
		Use:   "lint FILE...",
		Short: "Check manifests as the webhook would",
		Long: `Lint reads manifests and reports the same problems with Reloader's annotations
as the webhook does at admission. It needs no cluster. FILE is a file with one or more
YAML documents, or JSON; a directory, in which every .yaml, .yml and .json file
is read; or - for standard input. Objects that are neither workloads nor sources
are skipped.

The exit status is 1 if the webhook would deny something, or if something
cannot be read.`,
		Example: `  helm template . | reloader lint -
  reloader lint --admission=strict deploy/`,
		Args:          cobra.MinimumNArgs(1),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          f.run,
	}
	flags := cmd.Flags()
	f.settings.bind(flags)
	flags.StringVar(&f.admission, "admission", string(policy.ModeDefault),
		"how problems are handled: off, warn, default (reject invalid values) or strict (also reject doubtful ones)")
	flags.StringVarP(&f.output, "output", "o", "text", "text or json")
	return cmd
}

func (f *lintFlags) run(cmd *cobra.Command, paths []string) error {
	settings, err := f.settings.parse()
	if err != nil {
		return err
	}
	mode, err := policy.ParseMode(f.admission)
	if err != nil {
		return fmt.Errorf("--admission: %w", err)
	}
	if f.output != "text" && f.output != "json" {
		return fmt.Errorf("--output=%s: use text or json", f.output)
	}
	report := lint.Run(lint.Options{Settings: settings, Mode: mode, Kinds: kind.BuiltIn()}, paths, cmd.InOrStdin())
	if f.output == "json" {
		err = report.WriteJSON(cmd.OutOrStdout())
	} else {
		err = report.WriteText(cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	if err != nil {
		return fmt.Errorf("print findings: %w", err)
	}
	if report.Rejected() {
		return errRejected
	}
	return nil
}
