package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"k8s-reloader/e2e/cluster/binaries"
)

// tools are paths of programs.
type tools struct {
	helm, unittest, kubeconform string
}

func main() {
	var with tools
	flag.StringVar(&with.unittest, "unittest", "bin/helm-unittest", "path of helm-unittest")
	flag.StringVar(&with.kubeconform, "kubeconform", "bin/kubeconform", "path of kubeconform")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, with, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, with tools, log io.Writer) error {
	root, err := binaries.Root()
	if err != nil {
		return err
	}
	built, err := binaries.Build(ctx, binaries.Options{Root: root, Log: log}, binaries.Helm())
	if err != nil {
		return err
	}
	with.helm = built["helm"]
	chart := filepath.Join(root, "charts/reloader")
	if err := command(ctx, log, nil, with.helm, "lint", "--strict", "--quiet", chart); err != nil {
		return err
	}
	if err := command(ctx, log, nil, with.unittest, "--strict", "--file", "tests/*_test.yaml", chart); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "reloader-schemas-")
	if err != nil {
		return fmt.Errorf("make a folder for the schemas: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := writeSchemas(ctx, root, dir); err != nil {
		return err
	}
	return conform(ctx, with, root, dir, log)
}

// conform validates what the chart renders from typical values, and the plain
// manifests.
func conform(ctx context.Context, with tools, root, schemas string, log io.Writer) error {
	kubeconform := []string{"-strict", "-summary", "-schema-location", filepath.Join(schemas, "{{.ResourceKind}}-{{.ResourceAPIVersion}}.json")}
	for name, args := range map[string][]string{
		"the chart's own values": nil,
		"namespaces":             {"--set", "reloader.watchGlobally=false", "--set", "reloader.namespaces={a,b}"},
		"Stakater's values":      {"--values", filepath.Join(root, "charts/testdata/stakater-values.yaml")},
	} {
		var rendered bytes.Buffer
		args = append([]string{"template", "demo", filepath.Join(root, "charts/reloader")}, args...)
		if err := command(ctx, &rendered, nil, with.helm, args...); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := command(ctx, log, &rendered, with.kubeconform, append(kubeconform, "-")...); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	manifests, err := filepath.Glob(filepath.Join(root, "charts/manifests/*/reloader.yaml"))
	if err != nil {
		return fmt.Errorf("find the manifests: %w", err)
	}
	return command(ctx, log, nil, with.kubeconform, append(kubeconform, manifests...)...)
}

// command runs a program; an error repeats what it printed on standard error.
func command(ctx context.Context, stdout io.Writer, stdin io.Reader, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	var problems bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &problems
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, problems.Bytes())
	}
	return nil
}
