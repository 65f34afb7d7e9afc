package tenant

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/install"
)

// shared is a cluster for the tests, which run one after another, and images is
// what pods run, on other clusters too.
//
//nolint:gochecknoglobals // TestMain has no other way
var (
	shared *cluster.Cluster
	images map[string]string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "reloader-tenant-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	// Without the race detector: what is measured is memory.
	program, err := install.Build(ctx, install.BuildOptions{Dir: dir, Log: os.Stderr})
	if err != nil {
		return fail(err)
	}
	images = map[string]string{install.Image: program}
	shared, err = cluster.Start(ctx, cluster.Options{Log: os.Stderr, Images: images})
	if err != nil {
		return fail(err)
	}
	defer func() {
		if err := shared.Stop(); err != nil {
			code = fail(err)
		}
	}()
	if err := shared.InstallRollouts(ctx); err != nil {
		return fail(err)
	}
	return m.Run()
}
