package docs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/cluster/binaries"
	"k8s-reloader/e2e/install"
)

// What the tests share. They run one after another.
//
//nolint:gochecknoglobals // TestMain has no other way
var (
	shared *cluster.Cluster
	root   string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var err error
	if root, err = binaries.Root(); err != nil {
		return fail(err)
	}
	dir, err := os.MkdirTemp("", "reloader-docs-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	image, err := chartImage()
	if err != nil {
		return fail(err)
	}
	program, err := install.Build(ctx, install.BuildOptions{Dir: dir, Race: true, Log: os.Stderr})
	if err != nil {
		return fail(err)
	}
	if shared, err = cluster.Start(ctx, cluster.Options{Log: os.Stderr, Images: map[string]string{image: program}}); err != nil {
		return fail(err)
	}
	defer func() {
		if err := shared.Stop(); err != nil {
			code = fail(err)
		}
	}()
	return m.Run()
}

// chartImage is the image that the chart runs by default.
func chartImage() (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "charts/reloader/Chart.yaml"))
	if err != nil {
		return "", fmt.Errorf("read the chart's version: %w", err)
	}
	var chart struct{ AppVersion string }
	if err := yaml.Unmarshal(text, &chart); err != nil {
		return "", fmt.Errorf("read the chart's version: %w", err)
	}
	return "k8s-reloader/reloader:" + chart.AppVersion, nil
}
