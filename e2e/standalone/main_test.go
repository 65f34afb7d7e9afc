package standalone

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"k8s-reloader/e2e/cluster"
)

// shared is the cluster of all tests here; each has a namespace of its own.
var shared *cluster.Cluster //nolint:gochecknoglobals // TestMain has no other way

func TestMain(m *testing.M) { os.Exit(run(m)) }

// atOnce is how many tests run beside each other, unless -parallel says so:
// they wait more than they work.
const atOnce = "6"

func run(m *testing.M) int {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", atOnce); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
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
