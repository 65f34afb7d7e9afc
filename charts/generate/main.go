package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"k8s-reloader/e2e/cluster/binaries"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	root, err := binaries.Root()
	if err != nil {
		return err
	}
	files, err := generate(ctx, root)
	if err != nil {
		return err
	}
	for path, content := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("write what was generated: %w", err)
		}
	}
	return nil
}

// generate returns the contents of all generated files, by their paths in the
// checkout.
func generate(ctx context.Context, root string) (map[string][]byte, error) {
	helm, err := binaries.Build(ctx, binaries.Options{Root: root, Log: os.Stderr}, binaries.Helm())
	if err != nil {
		return nil, err
	}
	values, err := os.ReadFile(filepath.Join(root, "charts/reloader/values.yaml"))
	if err != nil {
		return nil, fmt.Errorf("read the chart's values: %w", err)
	}
	readme, err := readme(values)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"charts/reloader/README.md": readme}
	for _, v := range variants() {
		manifest, err := manifest(ctx, helm["helm"], root, v)
		if err != nil {
			return nil, err
		}
		files["charts/manifests/"+v.dir+"/reloader.yaml"] = manifest
		files["charts/manifests/"+v.dir+"/kustomization.yaml"] = []byte(kustomization)
	}
	return files, nil
}

// variant is one way of installing the product without Helm.
type variant struct {
	// dir in charts/manifests.
	dir string
	// about is what it installs.
	about string
	// set are the values that differ from the chart's own.
	set []string
}

func variants() []variant {
	return []variant{
		{dir: "complete", about: "engine and webhook"},
		{dir: "engine", about: "the engine alone", set: []string{"webhook.enabled=false"}},
	}
}

const kustomization = `# Made by "make manifests". Take this folder as a resource of a kustomization of
# yours; the name of the image for its list of images is k8s-reloader/reloader.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - reloader.yaml
`

// head begins a manifest. All names and texts that hold the namespace are within
// it, so no tool changes it afterwards.
const head = `# Reloader: %s. Made from charts/reloader by "make manifests":
# change the chart, not this.
---
apiVersion: v1
kind: Namespace
metadata:
  name: reloader
  labels:
    pod-security.kubernetes.io/enforce: restricted
`

// manifest renders the chart for those who do not use Helm.
func manifest(ctx context.Context, helm, root string, v variant) ([]byte, error) {
	// The full name keeps the names short: there is no release to tell apart.
	args := []string{
		"template", "reloader", filepath.Join(root, "charts/reloader"), "--namespace", "reloader", "--set", "fullnameOverride=reloader",
	}
	for _, value := range v.set {
		args = append(args, "--set", value)
	}
	cmd := exec.CommandContext(ctx, helm, args...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("render the chart: %w\n%s", err, problems.Bytes())
	}
	// Who applies them owns them, not Helm.
	out = regexp.MustCompile(`(?m)^ +app\.kubernetes\.io/managed-by: Helm\n`).ReplaceAll(out, nil)
	return append(fmt.Appendf(nil, head, v.about), out...), nil
}
