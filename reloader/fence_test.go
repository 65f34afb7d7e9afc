package reloader_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader/annotation"
)

const (
	module            = "k8s-reloader"
	clientGo          = "k8s.io/client-go"
	controllerRuntime = "sigs.k8s.io/controller-runtime"
)

// fence keeps some packages from reaching others. A pattern is an import path;
// with "/..." at its end, also everything below. A package that does not exist
// yet comes under its fences as soon as it does.
type fence struct {
	// of are the packages within the fence, except those of outside.
	of, outside []string
	// bars are the packages that they must not reach.
	bars []string
	// own, if there are any, are the only packages of this module that they may
	// reach.
	own []string
	// direct counts what a package itself imports and nothing else. The API
	// types of Kubernetes import loggers and clocks, which says nothing of us.
	direct bool
	// behind are packages behind which nobody looks, each with the reason.
	behind map[string]string
	// allowed are single imports, written "a -> b", each with the reason.
	allowed map[string]string
}

// pure are the packages that do no I/O; the words come with them.
func pure() []string {
	return []string{
		module + "/reloader",
		module + "/reloader/annotation/...",
		module + "/reloader/excerpt/...",
		module + "/reloader/reference/...",
		module + "/reloader/pattern/...",
		module + "/reloader/policy/...",
		module + "/reloader/record/...",
		module + "/reloader/fingerprint/...",
		module + "/reloader/scope/...",
		module + "/reloader/printable/...",
	}
}

func index() string { return module + "/reloader/index/..." }

func fences() map[string]fence {
	return map[string]fence{
		"pure packages reach no client": {
			of:   append(pure(), index()),
			bars: []string{clientGo + "/...", controllerRuntime + "/..."},
		},
		"pure packages import no logger, clock, environment or I/O": {
			of: append(pure(), index()),
			bars: []string{
				"github.com/rs/zerolog/...", "github.com/go-logr/...", "k8s.io/klog/...", "log/...",
				// The package time itself is looked at by
				// TestPurePackagesReadNoClock: durations are fine.
				"k8s.io/utils/clock/...",
				"os/...", "net/...", "syscall", "io/ioutil", "math/rand/...", "crypto/rand",
			},
			direct: true,
		},
		"pure packages know only each other": {
			of:  pure(),
			own: pure(),
		},
		"the index knows only pure packages": {
			of:  []string{index()},
			own: append(pure(), index()),
		},
		"the webhook reads nothing but the request": {
			of: []string{module + "/webhook/..."},
			bars: []string{
				module + "/reloader/engine/...", module + "/reloader/index/...", module + "/reloader/checkpoint/...",
				clientGo + "/...", controllerRuntime + "/pkg/client/...", controllerRuntime + "/pkg/cache/...",
				controllerRuntime + "/pkg/manager/...", controllerRuntime + "/pkg/cluster/...",
			},
			behind: map[string]string{
				controllerRuntime + "/pkg/webhook/admission": "it drags in client-go by way of its metrics and " +
					"leader election; its handlers are given a request and hold no client",
			},
		},
		"the program carries nothing of cert-manager": {
			of:   []string{module + "/cmd/..."},
			bars: []string{"github.com/cert-manager/..."},
		},
		"certs know nothing of reloading": {
			of:   []string{module + "/certs/..."},
			bars: []string{module + "/reloader/...", module + "/webhook/..."},
			allowed: map[string]string{
				module + "/certs -> " + module + "/reloader/guard": "panics as errors, for all of the product; it imports nothing",
			},
		},
		"nothing builds on commands or end-to-end tests": {
			of: []string{module + "/..."},
			// charts holds the tools and tests of the chart, which nothing imports.
			outside: []string{module + "/cmd/...", module + "/e2e/...", module + "/charts/..."},
			bars:    []string{module + "/cmd/...", module + "/e2e/..."},
		},
	}
}

func TestFences(t *testing.T) {
	g := importGraph(t)
	for _, pattern := range append(pure(), index()) {
		assert.NotEmpty(t, g.matching([]string{pattern}), "%s has moved: move its fences too", pattern)
	}
	for name, f := range fences() {
		t.Run(name, func(t *testing.T) {
			for _, path := range f.breaches(g) {
				t.Error(path)
			}
			for pattern := range f.behind {
				assert.NotEmpty(t, g.matching([]string{pattern}), "nobody imports %s: the exemption can go", pattern)
			}
			for edge := range f.allowed {
				from, to, _ := strings.Cut(edge, " -> ")
				assert.Contains(t, g[from].imports, to, "the exemption of %s can go", edge)
			}
		})
	}
}

// TestFencesCanFail evaluates fences on a made-up graph, so that an empty
// result above means something.
func TestFencesCanFail(t *testing.T) {
	g := graph{
		"m/a":           {imports: []string{"fmt", "m/b"}},
		"m/b":           {imports: []string{"lib/types", "m/b/inner"}},
		"m/b/inner":     {imports: []string{"strings"}},
		"m/bystander":   {imports: []string{"lib/client/rest"}},
		"m/cmd/main":    {imports: []string{"m/cmd/flags", "m/a"}},
		"m/cmd/flags":   {},
		"m/admission":   {imports: []string{"lib/webhook"}},
		"m/stray":       {imports: []string{"m/cmd/flags"}},
		"lib/types":     {imports: []string{"lib/log"}},
		"lib/log":       {imports: []string{"time"}},
		"lib/client":    {imports: []string{"lib/client/rest"}},
		"lib/webhook":   {imports: []string{"lib/client"}},
		"lib/clientele": {},
	}
	tests := map[string]struct {
		fence fence
		want  []string
	}{
		"a direct import": {
			fence: fence{of: []string{"m/b"}, bars: []string{"lib/types"}},
			want:  []string{"m/b -> lib/types"},
		},
		"an indirect import, with the way to it": {
			fence: fence{of: []string{"m/a"}, bars: []string{"lib/log"}},
			want:  []string{"m/a -> m/b -> lib/types -> lib/log"},
		},
		"an indirect import where only direct ones count": {
			fence: fence{of: []string{"m/a", "m/b"}, bars: []string{"lib/log"}, direct: true},
		},
		"a direct import where only direct ones count": {
			fence: fence{of: []string{"m/a"}, bars: []string{"fmt"}, direct: true},
			want:  []string{"m/a -> fmt"},
		},
		"a package below a barred one": {
			fence: fence{of: []string{"m/bystander"}, bars: []string{"lib/client/..."}},
			want:  []string{"m/bystander -> lib/client/rest"},
		},
		"a package below a barred one, where only that one is barred": {
			fence: fence{of: []string{"m/bystander"}, bars: []string{"lib/client"}},
		},
		"a package that only begins like the fenced one": {
			fence: fence{of: []string{"m/b/..."}, bars: []string{"lib/client/..."}},
		},
		"a package below the fenced one": {
			fence: fence{of: []string{"m/b/..."}, bars: []string{"strings"}},
			want:  []string{"m/b -> m/b/inner -> strings", "m/b/inner -> strings"},
		},
		"behind an exempted package": {
			fence: fence{of: []string{"m/admission"}, bars: []string{"lib/client/..."}, behind: map[string]string{"lib/webhook": "reason"}},
		},
		"without the exemption": {
			fence: fence{of: []string{"m/admission"}, bars: []string{"lib/client/..."}},
			want:  []string{"m/admission -> lib/webhook -> lib/client", "m/admission -> lib/webhook -> lib/client -> lib/client/rest"},
		},
		"all but some": {
			fence: fence{of: []string{"m/..."}, outside: []string{"m/cmd/..."}, bars: []string{"m/cmd/..."}},
			want:  []string{"m/stray -> m/cmd/flags"},
		},
		"an import that is allowed": {
			fence: fence{of: []string{"m/a"}, bars: []string{"lib/...", "fmt"}, allowed: map[string]string{"m/b -> lib/types": "reason"}},
			want:  []string{"m/a -> fmt"},
		},
		"a package that does not exist": {
			fence: fence{of: []string{"m/later/..."}, bars: []string{"fmt"}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, tc.fence.breaches(g))
		})
	}

	t.Run("a package of this module that is not among its own", func(t *testing.T) {
		g := graph{
			module + "/a": {imports: []string{module + "/b", "fmt"}},
			module + "/b": {imports: []string{module + "/c"}},
			module + "/c": {},
		}
		f := fence{of: []string{module + "/a"}, own: []string{module + "/a", module + "/b"}}
		assert.Equal(t, []string{module + "/a -> " + module + "/b -> " + module + "/c"}, f.breaches(g))
	})
}

// TestPurePackagesReadNoClock looks for uses of what in package time depends
// on when it is called.
func TestPurePackagesReadNoClock(t *testing.T) {
	g := importGraph(t)
	for _, path := range g.matching(append(pure(), index())) {
		for _, file := range g[path].files {
			text := parse(t, file, nil)
			assert.Empty(t, clockReads(text), file)
		}
	}
	const bad = `package p
import wall "time"
var start = wall.Now()
var hour = wall.Hour
func f() { <-wall.After(hour) }`
	assert.Equal(t, []string{"time.Now", "time.After"}, clockReads(parse(t, "made-up.go", bad)), "the test can fail")
	assert.Empty(t, clockReads(parse(t, "made-up.go", `package p; import "time"; var d, _ = time.ParseDuration("1s")`)))
}

// graph is what imports what, by import path.
type graph map[string]node

type node struct {
	imports []string
	files   []string
}

// importGraph asks the go command for all packages of this module and what
// they need, tests aside.
func importGraph(t *testing.T) graph {
	t.Helper()
	// -e: a package that does not compile is reported by whoever builds it.
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Imports,Dir,GoFiles", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())

	g := graph{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Dir  string
			Imports, GoFiles []string
		}
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return g
		}
		require.NoError(t, err)
		n := node{imports: p.Imports}
		for _, file := range p.GoFiles {
			n.files = append(n.files, filepath.Join(p.Dir, file))
		}
		g[p.ImportPath] = n
	}
}

// matching returns the packages that a pattern matches, sorted.
func (g graph) matching(patterns []string) []string {
	var paths []string
	for path := range g {
		if matches(patterns, path) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// breaches returns the shortest way to everything that is reached and must not
// be, sorted.
func (f fence) breaches(g graph) []string {
	var found []string
	for _, path := range g.matching(f.of) {
		if !matches(f.outside, path) {
			found = append(found, f.breachesOf(g, path)...)
		}
	}
	slices.Sort(found)
	return found
}

func (f fence) breachesOf(g graph, start string) []string {
	behind := slices.Collect(maps.Keys(f.behind))
	way := map[string]string{start: start}
	var found []string
	for queue := []string{start}; len(queue) > 0; queue = queue[1:] {
		path := queue[0]
		if (f.direct && path != start) || matches(behind, path) {
			continue
		}
		for _, next := range g[path].imports {
			if _, seen := way[next]; seen {
				continue
			}
			if _, ok := f.allowed[path+" -> "+next]; ok {
				continue
			}
			way[next] = way[path] + " -> " + next
			queue = append(queue, next)
			if f.barred(next) {
				found = append(found, way[next])
			}
		}
	}
	return found
}

func (f fence) barred(path string) bool {
	if len(f.own) > 0 && matches([]string{module + "/..."}, path) && !matches(f.own, path) {
		return true
	}
	return matches(f.bars, path)
}

func matches(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		root, tree := strings.CutSuffix(pattern, "/...")
		return path == root || tree && strings.HasPrefix(path, root+"/")
	})
}

func parse(t *testing.T, name string, text any) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
	require.NoError(t, err)
	return file
}

// clockReads returns what file uses of package time that reads a clock or
// waits for one.
func clockReads(file *ast.File) []string {
	var name string // of package time in this file
	for _, spec := range file.Imports {
		if spec.Path.Value == `"time"` {
			name = "time"
			if spec.Name != nil {
				name = spec.Name.Name
			}
		}
	}
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := selector.X.(*ast.Ident)
		if !ok || name == "" || pkg.Name != name {
			return true
		}
		switch selector.Sel.Name {
		case "Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "Local", "LoadLocation":
			found = append(found, "time."+selector.Sel.Name)
		}
		return true
	})
	return found
}

// TestKindsAreNamedInOnePlace looks for comparisons with one kind of workload. What
// differs between kinds is a capability of kind.Kind; a kind that is added there must
// not be missing elsewhere.
func TestKindsAreNamedInOnePlace(t *testing.T) {
	allowed := map[string]string{
		"/reloader/policy/judge.go": "the rules of annotations whose text names a kind: pause-period, rollout-strategy, and what a CronJob hands on",
	}
	g := importGraph(t)
	found := map[string][]string{}
	for _, path := range g.matching([]string{module + "/reloader/...", module + "/webhook/...", module + "/certs/..."}) {
		if path == module+"/reloader/kind" {
			continue
		}
		for _, file := range g[path].files {
			if names := kindsNamed(parse(t, file, nil)); len(names) > 0 {
				found[strings.TrimPrefix(path, module)+"/"+filepath.Base(file)] = names
			}
		}
	}
	for name, kinds := range found {
		assert.Contains(t, allowed, name, "it names %v: make the difference a capability of kind.Kind", kinds)
	}
	for name := range allowed {
		assert.Contains(t, found, name, "the exemption can go")
	}
	assert.Equal(t, []string{"Job"}, kindsNamed(parse(t, "made-up.go",
		`package p; import "k8s-reloader/reloader"; var w = reloader.Workload{Kind: reloader.Job}`)), "the test can fail")
}

// kindsNamed returns the kinds of workload that a file names by their constants.
func kindsNamed(file *ast.File) (names []string) {
	constants := []string{"Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "Rollout", "DeploymentConfig"}
	ast.Inspect(file, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := selector.X.(*ast.Ident); ok && pkg.Name == "reloader" && slices.Contains(constants, selector.Sel.Name) {
			names = append(names, selector.Sel.Name)
		}
		return true
	})
	return names
}

// TestAnnotationKeysAreWrittenOnce looks for the product's domain in string
// literals: a key that is not in the table of package annotation would be missing
// in every list that is made from it.
func TestAnnotationKeysAreWrittenOnce(t *testing.T) {
	allowed := map[string]string{
		"metainfo/metainfo.go":     "a label of a ConfigMap",
		"kind/carrier.go":          "a label and a state of objects that the engine alone makes",
		"kind/jobcarrier.go":       "the same, of earlier versions",
		"cmd/reloader/root.go":     "an example in the help",
		"annotation/table.go":      "the table",
		"annotation/annotation.go": "the domain itself",
	}
	g := importGraph(t)
	found := map[string]bool{}
	for _, path := range g.matching([]string{module + "/reloader/...", module + "/webhook/...", module + "/certs/...", module + "/cmd/..."}) {
		for _, file := range g[path].files {
			name := strings.TrimPrefix(strings.TrimPrefix(path, module+"/"), "reloader/") + "/" + filepath.Base(file)
			ast.Inspect(parse(t, file, nil), func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING && strings.Contains(l.Value, annotation.Domain) {
					found[name] = true
				}
				return true
			})
		}
	}
	for name := range found {
		assert.Contains(t, allowed, name, "add the annotation to the table of package annotation")
	}
	for name := range allowed {
		assert.True(t, found[name], "the exemption of %s can go", name)
	}
}
