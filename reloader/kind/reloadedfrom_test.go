package kind

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// many returns marks of that many ConfigMaps, from the first on.
func many(first, n int, value string) []Mark {
	marks := make([]Mark, n)
	for i := range marks {
		marks[i] = mark(reloader.ConfigMap, fmt.Sprintf("settings-of-tenant-%04d", first+i), fmt.Sprintf("v2-%032d-%s", i, value), "main")
	}
	return marks
}

// However many sources change at once, what a reload writes fits the object, and
// the same change writes the same.
func TestAReloadOfManySourcesStaysSmall(t *testing.T) {
	long := many(0, 300, "a")
	for i := range long {
		long[i].Source.Name += strings.Repeat("a", 200)
		for c := range 200 {
			long[i].UsedBy = append(long[i].UsedBy, fmt.Sprintf("%060d", c))
		}
	}
	tests := map[string][]Mark{
		"2,100": many(0, 2100, "a"), "10,000": many(0, 10000, "a"), "long names in many containers": long, "one in many containers": long[:1],
	}
	for name, marks := range tests {
		for _, strategy := range []Strategy{EnvVars, Annotations} {
			t.Run(name+", "+string(strategy), func(t *testing.T) {
				c := Change{UID: "first", Keys: annotation.DefaultKeys(), Strategy: strategy, Marks: marks}
				for _, k := range []Kind{deployment(), rollout(), deploymentConfig()} {
					m := k.Manifest(example(t, k))
					patch, err := k.Patch(c, m)
					require.NoError(t, err)
					assert.NotEmpty(t, patch.Body)
					assert.Less(t, len(patch.Body), 2*maxText, k.Name)
					again, err := k.Patch(c, m)
					require.NoError(t, err)
					assert.Equal(t, string(patch.Body), string(again.Body))
				}
				template := new(corev1.PodTemplateSpec)
				template.Spec.Containers = []corev1.Container{{Name: "main"}}
				require.NoError(t, c.markTemplate(template))
				assert.True(t, c.MarkedIn(template))
				other := c
				other.Marks = append(many(0, 0, ""), marks...)
				other.Marks[len(marks)-1].Value = "v2-b"
				assert.False(t, other.MarkedIn(template), "another content of a source that is not named")
			})
		}
	}
}

// What the metadata of a CronJob or a Rollout remember of many sources is
// bounded, and recognised when the same is due again.
func TestManySourcesAreRemembered(t *testing.T) {
	of := func(marks []Mark) Change {
		return Change{UID: "first", Keys: annotation.DefaultKeys(), Strategy: EnvVars, Marks: marks}
	}
	remember := func(c Change, text string) (string, bool) {
		t.Helper()
		out, done, err := c.remember(text)
		require.NoError(t, err)
		assert.LessOrEqual(t, len(out), maxText+1024)
		return out, done
	}
	all := of(many(0, 2100, "a"))
	text, done := remember(all, "")
	require.False(t, done)
	same, done := remember(all, text)
	assert.True(t, done)
	assert.Equal(t, text, same)
	var from reloadedFrom
	require.NoError(t, json.Unmarshal([]byte(text), &from))
	assert.Equal(t, 2100, 1+len(from.Also)+from.More)

	_, done = remember(of(many(0, 3, "a")), text)
	assert.True(t, done, "what is named is remembered by itself")
	last := of(many(2099, 1, "b"))
	text, done = remember(last, text)
	assert.False(t, done, "another content of what is not named")
	_, done = remember(all, text)
	assert.False(t, done, "going back is a change")

	text, done = remember(all, text)
	require.False(t, done)
	_, done = remember(last, text)
	assert.False(t, done, "and so is going there again, though it was named before")

	all.Compact = true
	text, done = remember(all, "")
	assert.False(t, done)
	assert.Less(t, len(text), 64)
	all.Compact = false
	_, done = remember(all, text)
	assert.True(t, done)
}

// Going back to the content of variables starts pods, although a reload of many
// sources in between has left them alone.
func TestGoingBackAfterAReloadOfManySources(t *testing.T) {
	few, all := many(5, 2, "a"), many(0, 200, "b")
	for _, k := range []Kind{deployment(), rollout(), deploymentConfig()} {
		t.Run(string(k.Name), func(t *testing.T) {
			template := func(marks ...[]Mark) *Manifest {
				return changed(t, k, func(m *Manifest) {
					for _, made := range marks {
						c := Change{Keys: annotation.DefaultKeys(), Strategy: EnvVars, Marks: made}
						require.NoError(t, c.markTemplate(m.Template))
					}
				})
			}
			c := Change{UID: "first", Keys: annotation.DefaultKeys(), Strategy: EnvVars, Marks: few}
			m := template(few, all)
			require.NotEmpty(t, m.Template.Annotations)
			assert.False(t, c.MarkedIn(m.Template))
			patch, err := k.Patch(c, m)
			require.NoError(t, err)
			if k.Merges() {
				o, ok := apply(t, m.object, patch.Body, k.NewObject()).(*appsv1.Deployment)
				require.True(t, ok)
				assert.Empty(t, o.Spec.Template.Annotations)
				return
			}
			assert.Contains(t, string(patch.Body), `{"op":"remove","path":"/spec/template/metadata/annotations/reloader.stakater.com~1last-reloaded-from"}`)
			patch, err = k.Patch(c, template(few, all, few))
			require.NoError(t, err)
			assert.Empty(t, patch.Body)
		})
	}
}

// A workload without room gets the least that still starts its pods.
func TestACompactReload(t *testing.T) {
	for _, strategy := range []Strategy{EnvVars, Annotations} {
		c := Change{UID: "first", Keys: annotation.DefaultKeys(), Strategy: strategy, Marks: many(0, 2, "a"), Record: strings.Repeat("r", 1000), Compact: true}
		patch, err := deployment().Patch(c, nil)
		require.NoError(t, err)
		assert.JSONEq(t, `{"metadata":{"uid":"first","annotations":{"reloader.stakater.com/index":null}},"spec":{"template":{"metadata":{"annotations":{
			"reloader.stakater.com/last-reloaded-from":"{\"digest\":\"`+c.digestOfAll()+`\"}"}}}}}`, string(patch.Body))
		assert.Regexp(t, `^v2-[0-9a-f]{32}$`, c.digestOfAll())
	}
}

// FuzzPatch: whatever a workload holds, what is made of it is JSON or an error.
func FuzzPatch(f *testing.F) {
	f.Add(`{"metadata":{"resourceVersion":"1","annotations":{}},"spec":{"template":{"spec":{"containers":[{"name":"a","env":[{"name":"X"}]}]}}}}`)
	f.Add(`{"metadata":null,"spec":{"workloadRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"../x"}},"status":3}`)
	f.Add(`{"metadata":{"annotations":{"reloader.stakater.com/last-reloaded-from":"{\"also\":[{}]}"}},"spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[{"name":"a"}]}}}}}}`)
	f.Fuzz(func(t *testing.T, raw string) {
		for _, k := range BuiltIn().All() {
			m, err := k.Decode([]byte(raw))
			if err != nil {
				continue
			}
			for _, s := range []Strategy{EnvVars, Annotations} {
				for _, n := range []int{1, maxVariables + 1} {
					c := Change{UID: "u", Keys: annotation.DefaultKeys(), Strategy: s, Record: "r", Marks: many(0, n, "v")}
					for i := range c.Marks {
						c.Marks[i].Container = "a"
					}
					bodies := [][]byte{}
					switch k.Way {
					case ByPatch:
						patch, err := k.Patch(c, m)
						if err == nil && len(patch.Body) > 0 {
							bodies = append(bodies, patch.Body)
						}
					case ByRun:
						run, err := RunOf(m, c)
						if err == nil && run.Job != nil {
							assert.True(t, c.MarkedIn(&run.Job.Spec.Template))
						}
						patch, err := c.Remembers(m)
						require.NoError(t, err)
						bodies = append(bodies, patch.Body)
					case ByReplacement:
						var job *batchv1.Job
						job, err := Replacement(m, c)
						if err == nil && job != nil {
							assert.True(t, c.MarkedIn(&job.Spec.Template))
						}
					}
					for _, body := range bodies {
						require.True(t, len(body) == 0 || json.Valid(body), string(body))
						assert.Less(t, len(body), 2*len(raw)+20*maxText)
					}
				}
			}
		}
	})
}
