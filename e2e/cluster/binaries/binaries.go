package binaries

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// CacheEnv names the environment variable that moves the cache.
const CacheEnv = "RELOADER_CLUSTER_CACHE"

// AssetsEnv names the environment variable that points at ready-made programs.
const AssetsEnv = "KUBEBUILDER_ASSETS"

// Tool is one program of a Module.
type Tool struct {
	// Name is the program's file name.
	Name string
	// Package is the import path of its main package.
	Package string
}

// Module is a Go module whose go.mod pins what its tools are built from.
type Module struct {
	// Dir is the module's folder, relative to the root of the checkout.
	Dir string
	// Stamp is the required module whose version is linked into the tools as
	// the Kubernetes version they report; empty links nothing.
	Stamp string
	// Tools are built in this order.
	Tools []Tool
}

// Kubernetes is the control plane, kwok, kubectl and helm.
func Kubernetes() Module {
	return Module{
		Dir:   "e2e/cluster/tools",
		Stamp: "k8s.io/kubernetes",
		Tools: []Tool{
			{Name: "etcd", Package: "go.etcd.io/etcd/server/v3"},
			{Name: "kube-apiserver", Package: "k8s.io/kubernetes/cmd/kube-apiserver"},
			{Name: "kube-controller-manager", Package: "k8s.io/kubernetes/cmd/kube-controller-manager"},
			{Name: "kube-scheduler", Package: "k8s.io/kubernetes/cmd/kube-scheduler"},
			{Name: "kubectl", Package: "k8s.io/kubernetes/cmd/kubectl"},
			{Name: "kwok", Package: "sigs.k8s.io/kwok/cmd/kwok"},
			{Name: "helm", Package: "helm.sh/helm/v4/cmd/helm"},
		},
	}
}

// ArgoRollouts is the controller of Rollouts.
func ArgoRollouts() Module {
	return Module{
		Dir:   "e2e/cluster/argo",
		Tools: []Tool{{Name: "rollouts-controller", Package: "github.com/argoproj/argo-rollouts/cmd/rollouts-controller"}},
	}
}

// Options say where to build from and to. The zero value suits code that runs
// anywhere below the checkout.
type Options struct {
	// Root is the checkout; default: found from the working folder upwards.
	Root string
	// Cache is where the programs are kept; default: $RELOADER_CLUSTER_CACHE,
	// else k8s-reloader/cluster in the user's cache folder.
	Cache string
	// Assets is a folder with programs that need no building; default:
	// $KUBEBUILDER_ASSETS. What it lacks is built.
	Assets string
	// Log receives one line per program built; nil is silent.
	Log io.Writer
}

// Paths maps the names of tools to absolute paths.
type Paths map[string]string

// Build returns the paths of every tool of the modules and compiles those the
// cache lacks. Processes that build at the same time wait for each other, and
// a program is either absent from the cache or whole.
func Build(ctx context.Context, o Options, modules ...Module) (Paths, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	paths := Paths{}
	for _, m := range modules {
		if err := o.build(ctx, m, paths); err != nil {
			return nil, fmt.Errorf("build the tools of %s: %w", m.Dir, err)
		}
	}
	return paths, nil
}

func (o Options) withDefaults() (Options, error) {
	var err error
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Assets == "" {
		o.Assets = os.Getenv(AssetsEnv)
	}
	if o.Cache == "" {
		o.Cache = os.Getenv(CacheEnv)
	}
	if o.Cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return o, fmt.Errorf("find the cache folder (set %s): %w", CacheEnv, err)
		}
		o.Cache = filepath.Join(user, "k8s-reloader", "cluster")
	}
	if o.Cache, err = filepath.Abs(o.Cache); err != nil {
		return o, fmt.Errorf("find the cache folder: %w", err)
	}
	if o.Root == "" {
		o.Root, err = Root()
	}
	return o, err
}

func (o Options) build(ctx context.Context, m Module, paths Paths) error {
	var wanted []Tool
	for _, t := range m.Tools {
		if path := filepath.Join(o.Assets, t.Name); o.Assets != "" && isProgram(path) {
			paths[t.Name] = path
			continue
		}
		wanted = append(wanted, t)
	}
	if len(wanted) == 0 {
		return nil
	}

	recipe, err := o.recipe(ctx, m)
	if err != nil {
		return err
	}
	for _, t := range wanted {
		paths[t.Name] = filepath.Join(recipe.cache, t.Name)
	}
	missing := missingIn(recipe.cache, wanted)
	if len(missing) == 0 {
		return nil
	}

	if err := os.MkdirAll(recipe.cache, 0o750); err != nil {
		return fmt.Errorf("make the cache folder: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(recipe.cache, ".lock"), o.Log)
	if err != nil {
		return err
	}
	defer unlock()
	// Another process may have built them while this one waited for the lock.
	missing = missingIn(recipe.cache, wanted)
	if len(missing) == 0 {
		return nil
	}

	fmt.Fprintf(o.Log, "building %d tools into %s (once; all of them take minutes)\n", len(missing), recipe.cache)
	for i, t := range missing {
		began := time.Now()
		fmt.Fprintf(o.Log, "[%d/%d] %s ...", i+1, len(missing), t.Name)
		if err := recipe.compile(ctx, t); err != nil {
			fmt.Fprintln(o.Log, " not built")
			return fmt.Errorf("build %s: %w", t.Name, err)
		}
		fmt.Fprintf(o.Log, " %.0f s\n", time.Since(began).Seconds())
	}
	return nil
}

// Source returns the folder of a module that m requires, for files of it that
// are no Go.
func (m Module) Source(ctx context.Context, o Options, required string) (string, error) {
	o, err := o.withDefaults()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "-C", filepath.Join(o.Root, m.Dir), "mod", "download", "-json", required)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find the source of %s: %w\n%s", required, err, tail(out, 4096))
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", fmt.Errorf("find the source of %s: %w", required, err)
	}
	return module.Dir, nil
}

// compile writes the program beside its final place first, so that a build
// that is interrupted leaves nothing that looks finished.
func (r recipe) compile(ctx context.Context, t Tool) (err error) {
	partial := filepath.Join(r.cache, fmt.Sprintf(".%s.%d", t.Name, os.Getpid()))
	defer func() {
		if removeErr := os.Remove(partial); removeErr != nil && !errors.Is(removeErr, os.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}()
	args := []string{"build", "-C", r.dir, "-trimpath", "-ldflags", r.ldflags, "-o", partial, t.Package}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = r.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(out, 4096))
	}
	return os.Rename(partial, filepath.Join(r.cache, t.Name))
}

// Root finds the checkout: from the working folder upwards, else from where
// this file was compiled.
func Root() (string, error) {
	starts := []string{}
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		starts = append(starts, filepath.Dir(file))
	}
	for _, dir := range starts {
		for {
			mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if err == nil && bytes.HasPrefix(mod, []byte("module k8s-reloader\n")) {
				return dir, nil
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return "", errors.New("find the checkout of k8s-reloader: run this from inside it")
}

func missingIn(dir string, tools []Tool) []Tool {
	var missing []Tool
	for _, t := range tools {
		if !isProgram(filepath.Join(dir, t.Name)) {
			missing = append(missing, t)
		}
	}
	return missing
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func tail(out []byte, size int) []byte {
	if len(out) <= size {
		return out
	}
	return append([]byte("..."), out[len(out)-size:]...)
}
