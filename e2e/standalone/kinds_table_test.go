package standalone

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/kind"
)

// The table: every kind with every source, every form of reference and every
// form of opt-in, once with each strategy. A cell changes twice, which makes two
// reloads; its source is written as it was, and gets another label, which makes
// none.

// variant is a kind, in one of the forms in which it is reloaded.
type variant struct {
	name string
	kind reloader.WorkloadKind
	// annotations beside those that opt in.
	annotations map[string]string
	// lends is true if the template is a Deployment's that the workload names.
	lends bool
	// without says why an opt-in cannot be; empty if it can.
	without map[string]string
}

func variants() []variant {
	return []variant{
		{name: "deployment", kind: reloader.Deployment},
		{name: "statefulset", kind: reloader.StatefulSet},
		{name: "daemonset", kind: reloader.DaemonSet},
		{name: "cronjob", kind: reloader.CronJob},
		{name: "job", kind: reloader.Job},
		{name: "deploymentconfig", kind: reloader.DeploymentConfig},
		{name: "rollout", kind: reloader.Rollout},
		{name: "restart", kind: reloader.Rollout, annotations: map[string]string{annotation.DefaultKeys().RolloutStrategy: "restart"}},
		{name: "lender", kind: reloader.Rollout, lends: true, without: map[string]string{
			"template": "the template is the Deployment's, and opts in the Deployment",
		}},
	}
}

// optIn is a form of saying that changes matter.
type optIn struct {
	// metadata, template and source annotations.
	metadata, template, source func(kind reloader.SourceKind, name string) map[string]string
	// follows is true if it needs a reference to act through.
	follows bool
}

func optIns() map[string]optIn {
	k := annotation.DefaultKeys()
	just := func(key func(reloader.SourceKind) string, value func(string) string) func(reloader.SourceKind, string) map[string]string {
		return func(kind reloader.SourceKind, name string) map[string]string {
			return map[string]string{key(kind): value(name)}
		}
	}
	fixed := func(key string) func(reloader.SourceKind) string {
		return func(reloader.SourceKind) string { return key }
	}
	isTrue := func(string) string { return "true" }
	return map[string]optIn{
		"auto":     {metadata: just(fixed(k.Auto), isTrue), follows: true},
		"typed":    {metadata: just(k.TypedAuto, isTrue), follows: true},
		"named":    {metadata: just(k.Named, func(name string) string { return "other," + name })},
		"pattern":  {metadata: just(k.Named, func(name string) string { return name[:len(name)-1] + ".$" })},
		"search":   {metadata: just(fixed(k.Search), isTrue), source: just(fixed(k.Match), isTrue), follows: true},
		"template": {template: just(fixed(k.Auto), isTrue), follows: true},
	}
}

// cell is one workload and its source.
type cell struct {
	workload
	variant    variant
	lender     workload
	source     sourceForm
	sourceName string
	annotated  map[string]string // the source
	seen       []types.UID       // of a Job
	generation int64
}

// cells returns all that can exist, and tells of the others why not.
func cells(t *testing.T, ns string) (all []*cell) {
	t.Helper()
	absent := map[string]int{}
	for _, v := range variants() {
		for _, source := range sourceForms() {
			for reference, use := range source.references {
				for opt, in := range optIns() {
					name := strings.ToLower(strings.Join([]string{v.name, string(source.kind), reference, opt}, "-"))
					switch {
					case v.without[opt] != "":
						absent[v.name+" "+opt+": "+v.without[opt]]++
						continue
					case reference == "unused" && in.follows:
						absent["unused "+opt+": there is no reference to follow"]++
						continue
					}
					all = append(all, newCell(ns, name, v, source, use, in))
				}
			}
		}
	}
	for why, n := range absent {
		t.Logf("%d cells cannot exist, %s", n, why)
	}
	return all
}

func newCell(ns, name string, v variant, source sourceForm, use func(*corev1.PodSpec, string), in optIn) *cell {
	c := &cell{variant: v, source: source, sourceName: name}
	pod := corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example/app:1"}}}
	use(&pod, name)
	annotations := map[string]string{}
	add := func(to map[string]string, of func(reloader.SourceKind, string) map[string]string) map[string]string {
		if of == nil {
			return to
		}
		maps.Copy(to, of(source.kind, name))
		return to
	}
	maps.Copy(annotations, v.annotations)
	c.annotated = add(map[string]string{}, in.source)
	c.workload = workload{
		kind: v.kind, ns: ns, name: name, pod: pod,
		annotations:         add(annotations, in.metadata),
		templateAnnotations: add(map[string]string{}, in.template),
	}
	if v.lends {
		c.lender = workload{kind: reloader.Deployment, ns: ns, name: name, pod: pod}
		c.workload = borrowing(ns, name, name, c.annotations)
		c.replicas = 0
	}
	return c
}

func (c *cell) write(t *testing.T, content, label string) error {
	t.Helper()
	o := &unstructured.Unstructured{Object: c.source.body(content)}
	o.SetGroupVersionKind(c.source.resource.GroupVersion().WithKind(string(c.source.kind)))
	o.SetName(c.sourceName)
	o.SetAnnotations(c.annotated)
	o.SetLabels(map[string]string{"label": label})
	by := metav1.ApplyOptions{FieldManager: "test", Force: true}
	_, err := resources(t, c.source.resource, c.ns).Apply(t.Context(), c.sourceName, o, by)
	if err != nil || c.source.mounted == nil {
		return err
	}
	o = c.source.mounted(c.sourceName, content)
	o.SetLabels(map[string]string{"label": label})
	_, err = resources(t, podStatuses(), c.ns).Apply(t.Context(), o.GetName(), o, by)
	return err
}

func (c *cell) make(t *testing.T) error {
	t.Helper()
	if err := c.write(t, "1", "a"); err != nil {
		return err
	}
	if c.variant.lends {
		if _, err := objects(t, reloader.Deployment, c.ns).Create(t.Context(), c.lender.object(t), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	o, err := objects(t, c.kind, c.ns).Create(t.Context(), c.object(t), metav1.CreateOptions{})
	if err == nil {
		c.seen = []types.UID{o.GetUID()}
	}
	return err
}

// shown is what the API server shows of all cells, by kind and name.
type shown map[reloader.WorkloadKind]map[string]*unstructured.Unstructured

func show(t *testing.T, ns string) shown {
	t.Helper()
	all := shown{}
	for _, k := range kind.BuiltIn().All() {
		all[k.Name] = map[string]*unstructured.Unstructured{}
		for _, o := range listed(t, k.Name, ns) {
			all[k.Name][o.GetName()] = &o
		}
	}
	return all
}

// runs counts the Jobs that a CronJob controls.
func (s shown) runs(of types.UID) (n int) {
	for _, o := range s[reloader.Job] {
		if owner := metav1.GetControllerOf(o); owner != nil && owner.UID == of {
			n++
		}
	}
	return n
}

// rolled counts the reloads that the API server shows, given that nobody else
// has changed anything.
func (c *cell) rolled(t *testing.T, s shown) int {
	t.Helper()
	o := s[c.kind][c.name]
	require.NotNil(t, o, c.name)
	switch {
	case c.kind == reloader.CronJob:
		return s.runs(o.GetUID())
	case c.kind == reloader.Job:
		if last := c.seen[len(c.seen)-1]; o.GetUID() != last {
			c.seen = append(c.seen, o.GetUID())
		}
		return len(c.seen) - 1
	case c.variant.lends:
		// Controllers write annotations of the Deployment, which count as well.
		return marksOf(templateOf(t, s[reloader.Deployment][c.name]))
	}
	return int(o.GetGeneration() - c.generation)
}

// marksOf is 1 if the template has a mark of ours.
func marksOf(template corev1.PodTemplateSpec) int {
	if template.Annotations[annotation.DefaultKeys().LastReloadedFrom] != "" {
		return 1
	}
	for _, v := range template.Spec.Containers[0].Env {
		if strings.HasPrefix(v.Name, "STAKATER_") {
			return 1
		}
	}
	return 0
}

// inParallel does the same for all cells.
func inParallel(t *testing.T, all []*cell, do func(*cell) error) {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(16)
	for _, c := range all {
		g.Go(func() error {
			if err := do(c); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
}

func TestEveryCell(t *testing.T) {
	everyKind(t)
	require.NoError(t, shared.InstallSecretsStore(t.Context()))
	for _, strategy := range []kind.Strategy{kind.EnvVars, kind.Annotations} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, "table-"+string(strategy))
			// Its thousands of objects are in the way of the tests that follow.
			t.Cleanup(func() {
				_ = shared.Client().CoreV1().Namespaces().Delete(context.Background(), ns, metav1.DeleteOptions{})
			})
			all := cells(t, ns)
			inParallel(t, all, func(c *cell) error { return c.make(t) })
			settle(t, ns, all)
			_, r := startEngine(t, within(ns), withCSI, func(o *engine.Options) { o.Strategy = strategy })
			t.Logf("%d cells", len(all))

			for i, content := range []string{"2", "3"} {
				inParallel(t, all, func(c *cell) error { return c.write(t, content, "a") })
				requireCount(t, r, all, i+1)
				// What was there is written again, by another hand and with
				// another label.
				inParallel(t, all, func(c *cell) error { return c.write(t, content, "b"+content) })
				never(t, func() bool { return total(r, all) != (i+1)*len(all) })
				now := show(t, ns)
				for _, c := range all {
					want := i + 1
					if c.variant.lends {
						want = 1
					}
					assert.Equal(t, want, c.rolled(t, now), c.name)
				}
			}
		})
	}
}

// settle waits until controllers leave the generations alone.
func settle(t *testing.T, ns string, all []*cell) {
	t.Helper()
	require.Eventually(t, func() bool {
		now := show(t, ns)
		for _, c := range all {
			o := now[c.kind][c.name]
			c.generation = o.GetGeneration()
			// A Deployment's revision is an annotation, and those count.
			if c.kind == reloader.Deployment && o.GetAnnotations()["deployment.kubernetes.io/revision"] == "" {
				return false
			}
		}
		return true
	}, time.Minute, 500*time.Millisecond)
}

func total(r *reports, all []*cell) (n int) {
	for _, c := range all {
		n += r.count(c.key())
	}
	return n
}

func requireCount(t *testing.T, r *reports, all []*cell, want int) {
	t.Helper()
	var missing []string
	ok := assert.Eventually(t, func() bool {
		missing = nil
		for _, c := range all {
			if r.count(c.key()) != want {
				missing = append(missing, fmt.Sprintf("%s: %d", c.name, r.count(c.key())))
			}
		}
		return len(missing) == 0
	}, 2*time.Minute, 50*time.Millisecond)
	require.True(t, ok, "want %d: %d cells differ: %.2000s", want, len(missing), strings.Join(missing, "\n"))
}
