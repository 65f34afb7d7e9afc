package production

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/cluster/binaries"
	"k8s-reloader/e2e/install"
)

// What the tests share. They run one after another.
//
//nolint:gochecknoglobals // TestMain has no other way
var (
	shared *cluster.Cluster
	// before is the checkout of the previous version; nil if there is none.
	before *previous
)

const (
	namespace = "reloader"
	// previousImage stands for the program of the previous version.
	previousImage = "k8s-reloader/reloader:previous"
)

// previous is the version that users come from: the last release, or the parent
// of this commit as long as there is none.
type previous struct {
	revision, root, program string
	// lingers is true if its webhook goes on serving when it is told to end.
	lingers bool
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "reloader-production-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	program, err := install.Build(ctx, install.BuildOptions{Dir: dir, Log: os.Stderr})
	if err != nil {
		return fail(err)
	}
	images := map[string]string{install.Image: program}
	if before, err = checkOut(ctx, filepath.Join(dir, "previous")); err != nil {
		fmt.Fprintln(os.Stderr, "the upgrade is not tested:", err)
	} else {
		images[previousImage] = before.program
	}
	shared, err = cluster.Start(ctx, cluster.Options{Log: os.Stderr, Images: images})
	if err != nil {
		return fail(err)
	}
	defer func() {
		if err := shared.Stop(); err != nil {
			code = fail(err)
		}
	}()
	return m.Run()
}

// checkOut unpacks the previous version into dir and builds its program.
func checkOut(ctx context.Context, dir string) (*previous, error) {
	root, err := binaries.Root()
	if err != nil {
		return nil, err
	}
	git := func(args ...string) ([]byte, error) {
		var problems bytes.Buffer
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...)
		cmd.Stderr = &problems
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("git %v: %w: %s", args, err, bytes.TrimSpace(problems.Bytes()))
		}
		return bytes.TrimSpace(out), nil
	}
	revision, err := git("describe", "--tags", "--abbrev=0", "HEAD~1")
	if err != nil {
		var parentErr error
		if revision, parentErr = git("rev-parse", "--short", "HEAD~1"); parentErr != nil {
			return nil, errors.Join(err, parentErr)
		}
	}
	archive, err := os.CreateTemp(filepath.Dir(dir), "previous-*.tar")
	if err != nil {
		return nil, fmt.Errorf("make an archive: %w", err)
	}
	if err := errors.Join(archive.Close(), os.MkdirAll(dir, 0o750)); err != nil {
		return nil, fmt.Errorf("make an archive: %w", err)
	}
	if _, err := git("archive", "--output", archive.Name(), string(revision)); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "tar", "-xf", archive.Name(), "-C", dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("unpack %s: %w: %s", revision, err, out)
	}
	program, err := install.Build(ctx, install.BuildOptions{Dir: filepath.Join(dir, "bin"), Root: dir, Log: os.Stderr})
	if err != nil {
		return nil, err
	}
	help, err := exec.CommandContext(ctx, program, "webhook", "--help").Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s for its flags: %w", revision, err)
	}
	return &previous{
		revision: string(revision), root: dir, program: program,
		lingers: bytes.Contains(help, []byte("--shutdown-delay")),
	}, nil
}
