package cluster

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// shared is the cluster that the tests of this package use side by side, each
// in a namespace of its own.
var shared *Cluster

// server is the program of serverImage.
var server string

// How long something may take on a busy machine, and how often it is looked at.
const (
	patience = time.Minute
	often    = 50 * time.Millisecond
)

const sharedUser = "system:serviceaccount:audited:caller"

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if os.Getenv(childEnv) != "" {
		return runChild()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "reloader-cluster-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	server, err = buildServer(ctx, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared, err = Start(ctx, Options{
		Log:        os.Stderr,
		AuditUsers: []string{sharedUser},
		Images:     map[string]string{serverImage: server},
		PodEnv:     []string{"EXTRA=from the options"},
	})
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
