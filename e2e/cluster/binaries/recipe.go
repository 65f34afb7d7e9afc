package binaries

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// recipe is all that decides what a build of a module's tools results in.
type recipe struct {
	dir     string
	ldflags string
	// cache is the folder whose name is a digest of everything else.
	cache string
}

func (o Options) recipe(ctx context.Context, m Module) (recipe, error) {
	r := recipe{dir: filepath.Join(o.Root, m.Dir), ldflags: "-s -w"}
	if m.Stamp != "" {
		version, err := requiredVersion(filepath.Join(r.dir, "go.mod"), m.Stamp)
		if err != nil {
			return recipe{}, err
		}
		r.ldflags += stamp(version)
	}
	cmd := exec.CommandContext(ctx, "go", "-C", r.dir, "version")
	cmd.Env = r.env()
	goVersion, err := cmd.Output()
	if err != nil {
		return recipe{}, fmt.Errorf("ask for the version of go: %w", err)
	}
	digest := sha256.New()
	fmt.Fprintf(digest, "%s\n%s\n%s/%s\n", goVersion, r.ldflags, runtime.GOOS, runtime.GOARCH)
	if err := hashSources(digest, r.dir); err != nil {
		return recipe{}, err
	}
	r.cache = filepath.Join(o.Cache, fmt.Sprintf("%s-%x", filepath.Base(r.dir), digest.Sum(nil)[:8]))
	return r, nil
}

// env is the environment of the go command: what would change the result
// without changing the digest is fixed.
func (r recipe) env() []string {
	return append(os.Environ(),
		"CGO_ENABLED=0", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "GOWORK=off", "PWD="+r.dir)
}

// stamp returns linker flags: without them the API server reports version
// v0.0.0, which kubectl and helm refuse to talk to.
func stamp(version string) string {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	const component = "k8s.io/component-base/version"
	return fmt.Sprintf(" -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s"+
		" -X k8s.io/client-go/pkg/version.gitVersion=%[2]s", component, version, major, minor)
}

func requiredVersion(gomod, module string) (string, error) {
	content, err := os.ReadFile(gomod)
	if err != nil {
		return "", fmt.Errorf("read the versions of the tools: %w", err)
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(fields) >= 2 && fields[0] == module && strings.HasPrefix(fields[1], "v") {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("%s does not require %s", gomod, module)
}

// hashSources covers the module's own packages as well as its requirements: a
// module may hold a main package of ours.
func hashSources(w io.Writer, dir string) error {
	return filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("hash the module of the tools: %w", err)
		}
		name := entry.Name()
		if entry.IsDir() || (name != "go.mod" && name != "go.sum" && filepath.Ext(name) != ".go") {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("hash the module of the tools: %w", err)
		}
		fmt.Fprintf(w, "%s %x\n", name, sha256.Sum256(content))
		return nil
	})
}

// lock waits until this process alone holds the file. The system releases it
// when the process ends, however it ends.
func lock(ctx context.Context, path string, log io.Writer) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the cache: %w", err)
	}
	said := false
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		if !said {
			fmt.Fprintln(log, "waiting for another process that is building the tools")
			said = true
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for %s: %w", path, ctx.Err()), file.Close())
		case <-time.After(200 * time.Millisecond):
		}
	}
}
