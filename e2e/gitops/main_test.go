package gitops

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/install"
)

// shared is the cluster of all tests, which run one after another.
var shared *cluster.Cluster

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "reloader-gitops-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	program, err := install.Build(ctx, install.BuildOptions{Dir: dir, Log: os.Stderr})
	if err != nil {
		return fail(err)
	}
	shared, err = cluster.Start(ctx, cluster.Options{Log: os.Stderr, Images: map[string]string{install.Image: program}})
	if err != nil {
		return fail(err)
	}
	defer func() {
		if err := shared.Stop(); err != nil {
			code = fail(err)
		}
	}()
	if err := shared.InstallDeploymentConfigs(ctx); err != nil {
		return fail(err)
	}
	if err := shared.InstallRollouts(ctx); err != nil {
		return fail(err)
	}
	return m.Run()
}
