package scenario

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/install"
)

// What the tests share. They run one after another.
//
//nolint:gochecknoglobals // TestMain has no other way
var (
	shared  *cluster.Cluster
	program string
)

const releaseNamespace = "reloader"

// auditPolicy logs every request of the product's ServiceAccounts.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ["system:serviceaccounts:` + releaseNamespace + `"]
- level: None
`

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "reloader-scenario-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	program, err = install.Build(ctx, install.BuildOptions{Dir: dir, Race: true, Log: os.Stderr})
	if err != nil {
		return fail(err)
	}
	shared, err = cluster.Start(ctx, cluster.Options{
		Log:         os.Stderr,
		AuditPolicy: auditPolicy,
		Images:      map[string]string{install.Image: program},
	})
	if err != nil {
		return fail(err)
	}
	defer func() {
		if err := shared.Stop(); err != nil {
			code = fail(err)
		}
	}()
	code = m.Run()
	if err := sound(); err != nil {
		return fail(err)
	}
	return code
}
