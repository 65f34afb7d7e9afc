package standalone

import (
	"context"
	"fmt"
	"os"
	"testing"

	"k8s-reloader/e2e/cluster"
)

// shared is the cluster of all tests here; each has a namespace of its own.
var shared *cluster.Cluster //nolint:gochecknoglobals // TestMain has no other way

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	c, err := cluster.Start(context.Background(), cluster.Options{Log: os.Stderr, AuditUsers: []string{
		"system:serviceaccount:reloader:engine",
	}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared = c
	code := m.Run()
	if err := c.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
