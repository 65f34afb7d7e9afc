package install

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"k8s-reloader/e2e/cluster/binaries"
)

// Image is what the chart's pods run. Put it into cluster.Options.Images, with
// the path that Build returned.
const Image = "k8s-reloader/reloader:local"

// BuildOptions say how the product is built. The zero value suits a demo.
type BuildOptions struct {
	// Dir gets the program; default: k8s-reloader in the user's cache folder.
	Dir string
	// Root is the checkout to build from; default: this one.
	Root string
	// Race builds in the race detector, which needs a C compiler.
	Race bool
	// Log receives progress for humans; nil is silent.
	Log io.Writer
}

// Build compiles ./cmd/reloader of this checkout and returns the program's
// absolute path. Builds of several processes do not disturb each other.
func Build(ctx context.Context, o BuildOptions) (path string, err error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	root := o.Root
	if root == "" {
		if root, err = binaries.Root(); err != nil {
			return "", err
		}
	}
	if path, err = o.target(); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", fmt.Errorf("make the folder for the program: %w", err)
	}
	// Renamed when it is complete: another process may be starting the old one.
	partial := fmt.Sprintf("%s.%d", path, os.Getpid())
	args, cgo := []string{"build", "-trimpath", "-ldflags=-s -w", "-o", partial}, "CGO_ENABLED=0"
	if o.Race {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	began := time.Now()
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/reloader")...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the product: %w\n%s", err, out)
	}
	if err := os.Rename(partial, path); err != nil {
		return "", fmt.Errorf("build the product: %w", err)
	}
	fmt.Fprintf(o.Log, "built the product in %.1f s\n", time.Since(began).Seconds())
	return path, nil
}

func (o BuildOptions) target() (string, error) {
	name := "reloader"
	if o.Race {
		name = "reloader-race"
	}
	if o.Dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache folder: %w", err)
		}
		return filepath.Join(cache, "k8s-reloader", name), nil
	}
	path, err := filepath.Abs(filepath.Join(o.Dir, name))
	if err != nil {
		return "", fmt.Errorf("find the folder for the program: %w", err)
	}
	return path, nil
}
