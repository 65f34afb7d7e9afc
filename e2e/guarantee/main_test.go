package guarantee

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/guarantee/history"
	"k8s-reloader/e2e/install"
)

// What all tests here share. They run one after the other, because some of
// them stop the API server.
var (
	shared  *cluster.Cluster //nolint:gochecknoglobals // TestMain has no other way
	etcd    history.Etcd     //nolint:gochecknoglobals // TestMain has no other way
	program string           //nolint:gochecknoglobals // TestMain has no other way
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	err := start(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := shared.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func start(ctx context.Context) (err error) {
	if program = os.Getenv("RELOADER_PROGRAM"); program == "" {
		if program, err = install.Build(ctx, install.BuildOptions{Race: true, Log: os.Stderr}); err != nil {
			return err
		}
	}
	shared, err = cluster.Start(ctx, cluster.Options{Log: os.Stderr, AuditUsers: []string{
		userOf(leadersNamespace, "a"), userOf(leadersNamespace, "b"),
	}})
	if err != nil {
		return err
	}
	etcd, err = etcdOf(shared)
	return err
}

// etcdOf reads from the process where etcd listens.
func etcdOf(c *cluster.Cluster) (history.Etcd, error) {
	pid, err := c.PID(cluster.Etcd)
	if err != nil {
		return "", err
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return "", fmt.Errorf("find etcd: %w", err)
	}
	for arg := range strings.SplitSeq(string(line), "\x00") {
		if url, ok := strings.CutPrefix(arg, "--listen-client-urls="); ok {
			return history.Etcd(url), nil
		}
	}
	return "", fmt.Errorf("find etcd: its process %d has no --listen-client-urls", pid)
}
