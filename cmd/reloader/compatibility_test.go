package main

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/api"
	"k8s-reloader/reloader/leader"
	"k8s-reloader/reloader/metainfo"
	"k8s-reloader/reloader/report"
)

// root is the folder of the repository.
const root = "../.."

// row is a line of a table of the page: the names in its first cell, and the
// tests in its last one, suites of the chart's included.
type row struct {
	names, tests []string
}

var (
	inBackticks = regexp.MustCompile("`([^`]+)`")
	testName    = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*|\w+_test\.yaml`)
	testFunc    = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(`)
)

// tables are the rows of docs/compatibility.md, by the heading above them.
func tables(t *testing.T) map[string][]row {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "docs/compatibility.md"))
	require.NoError(t, err)
	found := map[string][]row{}
	heading := ""
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		if after, ok := strings.CutPrefix(line, "## "); ok {
			heading = after
		}
		if !strings.HasPrefix(line, "|") {
			continue
		}
		if strings.HasPrefix(line, "|---") {
			// What stood above this was no row but the head of the table.
			found[heading] = found[heading][:len(found[heading])-1]
			continue
		}
		// A cell may have a vertical bar that Markdown is told to show.
		cells := strings.Split(strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "¦"), "|")
		var r row
		for _, name := range inBackticks.FindAllStringSubmatch(cells[0], -1) {
			r.names = append(r.names, name[1])
		}
		r.tests = testName.FindAllString(cells[len(cells)-1], -1)
		found[heading] = append(found[heading], r)
	}
	return found
}

// namesUnder returns what the tables under some headings list, in order.
func namesUnder(t *testing.T, headings ...string) (names []string) {
	t.Helper()
	all := tables(t)
	for _, heading := range headings {
		require.NotEmpty(t, all[heading], "there is no table under %q", heading)
		for _, r := range all[heading] {
			names = append(names, r.names...)
		}
	}
	slices.Sort(names)
	return names
}

// everyFile calls visit with what is in the Go files below some folders.
func everyFile(t *testing.T, visit func(path, text string), folders ...string) {
	t.Helper()
	for _, folder := range folders {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, folder), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
				return err
			}
			text, err := os.ReadFile(path)
			visit(path, string(text))
			return err
		}))
	}
}

func TestEachLineOfThePageNamesTestsThatExist(t *testing.T) {
	exists := map[string]bool{}
	everyFile(t, func(path, text string) {
		if strings.HasSuffix(path, "_test.go") {
			for _, found := range testFunc.FindAllStringSubmatch(text, -1) {
				exists[found[1]] = true
			}
		}
	}, "certs", "charts", "cmd", "e2e", "reloader", "webhook")
	suites, err := filepath.Glob(filepath.Join(root, "charts/reloader/tests/*_test.yaml"))
	require.NoError(t, err)
	for _, suite := range suites {
		exists[filepath.Base(suite)] = true
	}
	for heading, rows := range tables(t) {
		for _, r := range rows {
			assert.NotEmpty(t, r.tests, "%s: a line names no test: %s", heading, r.names)
			for _, name := range r.tests {
				assert.True(t, exists[name], "%s: %s: there is no %s", heading, r.names, name)
			}
		}
	}
}

// What is on the page is in the product, and the other way round.
func TestThePageListsWhatThereIs(t *testing.T) {
	tests := map[string]struct {
		headings []string
		there    func(t *testing.T) []string
	}{
		"annotations": {
			[]string{"Annotations on workloads", "Annotations on sources"},
			func(*testing.T) (keys []string) {
				for _, key := range reflect.ValueOf(annotation.DefaultKeys()).Fields() {
					keys = append(keys, key.String())
				}
				return keys
			},
		},
		"flags": {
			[]string{"Flags of the engine"},
			func(*testing.T) (flags []string) {
				newEngineCommand().Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, "--"+f.Name) })
				return flags
			},
		},
		"environment": {[]string{"Environment of the engine"}, variables},
		"metrics":     {[]string{"Metrics of the engine"}, metrics},
		"reasons of events": {
			[]string{"Events"},
			func(t *testing.T) (reasons []string) {
				constant := regexp.MustCompile(`(?m)^\treason\w+\s*= "(\w+)"$`)
				everyFile(t, func(_, text string) {
					for _, found := range constant.FindAllStringSubmatch(text, -1) {
						reasons = append(reasons, found[1])
					}
				}, "reloader/report")
				return reasons
			},
		},
		"objects in the cluster": {
			[]string{"Objects in the cluster"},
			func(*testing.T) []string { return []string{leader.DefaultName, metainfo.Name} },
		},
		"values of the chart": {[]string{"Values of the chart"}, chartValues},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			there := tc.there(t)
			slices.Sort(there)
			require.NotEmpty(t, there)
			assert.Equal(t, there, namesUnder(t, tc.headings...))
		})
	}
}

// What the page calls the same has the same default, too: a command line that
// leaves a flag out means what it always meant.
func TestDefaultsOfFlags(t *testing.T) {
	want := map[string]string{
		"auto-annotation":                  "reloader.stakater.com/auto",
		"auto-reload-all":                  "false",
		"auto-search-annotation":           "reloader.stakater.com/search",
		"breaker-reloads":                  "10",
		"checkpoint":                       "",
		"coalesce-window":                  "1s",
		"configmap-annotation":             "configmap.reloader.stakater.com/reload",
		"configmap-auto-annotation":        "configmap.reloader.stakater.com/auto",
		"enable-csi-integration":           "false",
		"enable-ha":                        "false",
		"enable-pprof":                     "false",
		"fingerprint-key-secret":           "",
		"follow-all-references":            "false",
		"ignore-annotation":                "reloader.stakater.com/ignore",
		"ignored-workload-types":           "[]",
		"is-Argo-Rollouts":                 "false",
		"is-argo-rollouts":                 "false",
		"kubeconfig":                       "",
		"listen-address":                   ":9090",
		"log-format":                       "",
		"log-level":                        "info",
		"max-concurrent-rollouts":          "0",
		"max-reloads-per-second":           "0",
		"namespace-selector":               "[]",
		"namespaces":                       "[]",
		"namespaces-to-ignore":             "[]",
		"pause-deployment-annotation":      "deployment.reloader.stakater.com/pause-period",
		"pause-deployment-time-annotation": "deployment.reloader.stakater.com/paused-at",
		"pprof-addr":                       "127.0.0.1:6060",
		"reload-on-create":                 "false",
		"reload-on-delete":                 "false",
		"reload-strategy":                  "env-vars",
		"rerun-finished-jobs":              "false",
		"resource-label-selector":          "[]",
		"resources-to-ignore":              "[]",
		"search-match-annotation":          "reloader.stakater.com/match",
		"secret-annotation":                "secret.reloader.stakater.com/reload",
		"secret-auto-annotation":           "secret.reloader.stakater.com/auto",
		"sync-after-restart":               "false",
		"verify-interval":                  "6h0m0s",
		"webhook-url":                      "",
	}
	got := map[string]string{}
	newEngineCommand().Flags().VisitAll(func(f *pflag.Flag) { got[f.Name] = f.DefValue })
	assert.Equal(t, want, got)
}

func TestThePathsOfThePageAnswer(t *testing.T) {
	served := map[bool]http.Handler{
		false: api.Handler(func() error { return nil }, prometheus.NewRegistry()),
		true:  api.Profiling(),
	}
	for _, path := range namesUnder(t, "HTTP") {
		answer := httptest.NewRecorder()
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		served[strings.HasPrefix(path, "/debug/")].ServeHTTP(answer, request)
		assert.Equal(t, http.StatusOK, answer.Code, path)
	}
}

// variables are the names of environment variables in the program.
func variables(t *testing.T) []string {
	literal := regexp.MustCompile(`"([A-Z]+(?:_[A-Z]+)+)"`)
	// client-go has its name.
	found := map[string]bool{"KUBECONFIG": true}
	everyFile(t, func(path, text string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, name := range literal.FindAllStringSubmatch(text, -1) {
			found[name[1]] = true
		}
	}, "cmd/reloader", "reloader")
	return slices.Collect(maps.Keys(found))
}

// described is a registry that only looks at what is registered: a metric with
// labels shows nothing before it has been counted.
type described struct{ metrics []string }

var description = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)

func (d *described) Register(c prometheus.Collector) error {
	descriptions := make(chan *prometheus.Desc, 16)
	c.Describe(descriptions)
	close(descriptions)
	for one := range descriptions {
		found := description.FindStringSubmatch(one.String())
		name := found[1]
		if found[2] != "" {
			name += "{" + found[2] + "}"
		}
		d.metrics = append(d.metrics, name)
	}
	return nil
}

func (d *described) MustRegister(...prometheus.Collector) {}
func (d *described) Unregister(prometheus.Collector) bool { return false }

// metrics are those of an engine, with their labels.
func metrics(t *testing.T) []string {
	var all described
	_, err := report.NewMetrics(&all, report.MetricsOptions{ByNamespace: true})
	require.NoError(t, err)
	return all.metrics
}

// chartValues are those that the page is about: what is new as a whole has its
// own pages.
func chartValues(t *testing.T) []string {
	text, err := os.ReadFile(filepath.Join(root, "charts/reloader/values.yaml"))
	require.NoError(t, err)
	var values map[string]any
	require.NoError(t, yaml.UnmarshalStrict(text, &values))
	delete(values, "webhook")
	delete(values, "certificates")
	return leaves(values, "")
}

// leaves are the paths of values; a map that is handed on as it stands is one.
func leaves(of map[string]any, path string) (found []string) {
	open := []string{"resources", "securityContext", "containerSecurityContext", "updatePolicy"}
	for name, value := range of {
		at := strings.TrimPrefix(path+"."+name, ".")
		below, isMap := value.(map[string]any)
		if isMap && len(below) > 0 && !slices.Contains(open, name) {
			found = append(found, leaves(below, at)...)
			continue
		}
		found = append(found, at)
	}
	return found
}
