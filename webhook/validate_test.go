package webhook

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/policy"
)

const (
	wrongPause = `deployment.reloader.stakater.com/pause-period "x" is not a duration above zero: write one such as "5m"`
	wrongAuto  = `reloader.stakater.com/auto "yes" counts as false, for --auto-reload-all too: write "true" or "false"`
	noRefs     = `reloader.stakater.com/auto follows nothing, no source is used: write configmap.reloader.stakater.com/reload`
)

func TestValidateWorkload(t *testing.T) {
	t.Parallel()
	noReferences := func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].EnvFrom = nil }
	tests := map[string]struct {
		mode         policy.Mode
		object, old  *appsv1.Deployment
		wantDenied   string
		wantWarnings []string
	}{
		"nothing of ours": {object: deployment(nil)},
		"opted in":        {object: deployment(map[string]string{auto: "true"})},
		"broken is denied": {
			object:     deployment(map[string]string{auto: "true", pause: "x"}),
			wantDenied: wrongPause,
		},
		"broken and doubtful: denied with a warning": {
			object:     deployment(map[string]string{auto: "yes", pause: "x"}),
			wantDenied: wrongPause, wantWarnings: []string{wrongAuto},
		},
		"strict denies both": {
			mode:       policy.ModeStrict,
			object:     deployment(map[string]string{auto: "yes", pause: "x"}),
			wantDenied: "2 problems with Reloader's annotations:\n- " + wrongPause + "\n- " + wrongAuto,
		},
		"strict does not deny a notice": {
			mode:         policy.ModeStrict,
			object:       deployment(map[string]string{auto: "true"}, noReferences),
			wantWarnings: []string{noRefs},
		},
		"warn denies nothing": {
			mode:         policy.ModeWarn,
			object:       deployment(map[string]string{auto: "yes", pause: "x"}),
			wantWarnings: []string{wrongPause, wrongAuto},
		},
		"off says nothing": {
			mode:   policy.ModeOff,
			object: deployment(map[string]string{auto: "yes", pause: "x"}),
		},
		"an old mistake passes": {
			mode:   policy.ModeStrict,
			object: deployment(map[string]string{auto: "yes", pause: "x", "new": "x"}),
			old:    deployment(map[string]string{auto: "yes", pause: "x"}),
		},
		"a new mistake beside an old one does not": {
			mode:       policy.ModeStrict,
			object:     deployment(map[string]string{auto: "yes", pause: "x"}),
			old:        deployment(map[string]string{auto: "yes"}),
			wantDenied: wrongPause,
		},
		"taking the last reference away is told": {
			object:       deployment(map[string]string{auto: "true"}, noReferences),
			old:          deployment(map[string]string{auto: "true"}),
			wantWarnings: []string{noRefs},
		},
		"a record that came with the manifest is no problem": {
			mode:   policy.ModeStrict,
			object: deployment(map[string]string{auto: "true", index: "from elsewhere"}),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, func(o *Options) { o.Mode = tc.mode })
			r := request{object: tc.object}
			if tc.old != nil {
				r.old = tc.old
			}
			response := h.send(PathValidateWorkload, r)
			assert.Equal(t, tc.wantDenied == "", response.Allowed)
			assert.Equal(t, tc.wantDenied, response.Result.Message)
			assert.Equal(t, tc.wantWarnings, response.Warnings)
			assert.Nil(t, response.Patch)
			answer := answerAllowed
			switch {
			case tc.wantDenied != "":
				answer = answerDenied
				assert.Equal(t, metav1.StatusReasonForbidden, response.Result.Reason)
			case tc.wantWarnings != nil:
				answer = answerWarned
			}
			assert.InDelta(t, 1, h.answers("validate-workload", answer), 0)
		})
	}
}

func TestValidateTellsUnrecordedReferences(t *testing.T) {
	t.Parallel()
	late := func(d *appsv1.Deployment) { d.Spec.Template = template("sidecar") }
	tests := map[string]struct {
		mode         policy.Mode
		object       func(*testing.T) *appsv1.Deployment
		wantWarnings []string
		wantCount    float64
	}{
		"the template is the recorded one": {
			object: func(t *testing.T) *appsv1.Deployment { return stored(t, 1) },
		},
		"a later webhook added a reference": {
			object: func(t *testing.T) *appsv1.Deployment {
				d := stored(t, 1)
				late(d)
				return d
			},
			wantWarnings: []string{`Secret "sidecar" came in after Reloader's webhook: it counts from the next full pass on`},
			wantCount:    1,
		},
		"and it is counted when warnings are off": {
			mode: policy.ModeOff,
			object: func(t *testing.T) *appsv1.Deployment {
				d := stored(t, 1)
				late(d)
				return d
			},
			wantCount: 1,
		},
		"the record of another workload": {
			object: func(t *testing.T) *appsv1.Deployment {
				d := stored(t, 1)
				d.Annotations[index] = strings.Replace(d.Annotations[index], `"n":"web"`, `"n":"other"`, 1)
				late(d)
				return d
			},
		},
		"the record of another generation, which the engine reads anew": {
			object: func(t *testing.T) *appsv1.Deployment {
				d := stored(t, 7)
				late(d)
				return d
			},
		},
		"a record that is none": {
			object: func(t *testing.T) *appsv1.Deployment {
				d := stored(t, 1)
				d.Annotations[index] = "x"
				return d
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, func(o *Options) { o.Mode = tc.mode })
			response := h.send(PathValidateWorkload, request{object: tc.object(t)})
			assert.True(t, response.Allowed)
			assert.Equal(t, tc.wantWarnings, response.Warnings)
			assert.InDelta(t, tc.wantCount, testutil.ToFloat64(h.webhook.metrics.unrecorded), 0)
		})
	}
}

func TestValidateWarningsAreBounded(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(o *Options) { o.Mode = policy.ModeWarn })
	annotations := map[string]string{}
	for i := range 40 {
		annotations[fmt.Sprintf("reloader.stakater.com/unknown-%02d-%s", i, strings.Repeat("ä", 100_000/40))] = strings.Repeat("x", 5_000)
	}
	response := h.send(PathValidateWorkload, request{object: deployment(annotations)})
	require.Len(t, response.Warnings, 10)
	assert.Equal(t, "and 31 more", response.Warnings[9])
	for _, warning := range response.Warnings {
		assert.LessOrEqual(t, len(warning), 120)
	}
}

func TestValidateSource(t *testing.T) {
	t.Parallel()
	secretGVK := metav1.GroupVersionKind{Version: "v1", Kind: "Secret"}
	source := func(kind, annotations, data string) string {
		return `{"kind":"` + kind + `","metadata":{"name":"web","annotations":` + annotations + `},"data":` + data + `}`
	}
	tests := map[string]struct {
		mode         policy.Mode
		request      request
		wantDenied   string
		wantWarnings []string
	}{
		"a Secret with match": {
			request: request{kind: secretGVK, object: source("Secret", `{"reloader.stakater.com/match":"true"}`, `{"a":"eA=="}`)},
		},
		"a Secret whose data is not even data": {
			request: request{kind: secretGVK, object: source("Secret", `{"reloader.stakater.com/match":"True"}`, `"`+planted+`"`)},
			wantWarnings: []string{
				`reloader.stakater.com/match "True" does nothing: write "true"`,
			},
		},
		"strict": {
			mode:       policy.ModeStrict,
			request:    request{kind: metav1.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, object: source("ConfigMap", `{"reloader.stakater.com/search":"true"}`, `{}`)},
			wantDenied: `reloader.stakater.com/search does nothing on a ConfigMap: write reloader.stakater.com/match "true"`,
		},
		"off": {
			mode:    policy.ModeOff,
			request: request{kind: secretGVK, object: source("Secret", `{"reloader.stakater.com/match":"True"}`, `{}`)},
		},
		"an old mistake passes": {
			mode: policy.ModeStrict,
			request: request{
				kind: secretGVK, object: source("Secret", `{"reloader.stakater.com/match":"True"}`, `{"a":"eA=="}`),
				old: source("Secret", `{"reloader.stakater.com/match":"True"}`, `{"a":"eQ=="}`),
			},
		},
		"a SecretProviderClass while CSI is off": {
			request: request{
				kind:   metav1.GroupVersionKind{Group: "secrets-store.csi.x-k8s.io", Version: "v1", Kind: "SecretProviderClass"},
				object: source("SecretProviderClass", `{"reloader.stakater.com/ignore":"true"}`, `{}`),
			},
			wantWarnings: []string{`reloader.stakater.com/ignore does nothing without --enable-csi-integration`},
		},
		"a delete": {
			request: request{kind: secretGVK, operation: admissionv1.Delete, old: source("Secret", `{"reloader.stakater.com/match":"True"}`, `{}`)},
		},
		"metadata that is none": {
			request:      request{kind: secretGVK, object: `{"metadata":{"annotations":"` + planted + `"}}`},
			wantWarnings: []string{failOpen},
		},
		"an old object that is none": {
			request: request{
				kind: secretGVK, object: source("Secret", `{"reloader.stakater.com/match":"True"}`, `{}`),
				old: `["` + planted + `"]`,
			},
			wantWarnings: []string{failOpen},
		},
		"a kind that is no source": {
			request: request{object: deployment(nil)},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, func(o *Options) { o.Mode = tc.mode })
			response := h.send(PathValidateSource, tc.request)
			assert.Equal(t, tc.wantDenied == "", response.Allowed)
			assert.Equal(t, tc.wantDenied, response.Result.Message)
			assert.Equal(t, tc.wantWarnings, response.Warnings)
			assert.NotContains(t, h.logged(), planted)
		})
	}
}

// FuzzEndpoints sends objects of any shape: every answer allows, or says why
// not, and nothing of the object is logged.
func FuzzEndpoints(f *testing.F) {
	raw, err := json.Marshal(deployment(map[string]string{auto: "true"}))
	require.NoError(f, err)
	f.Add(string(raw), string(raw))
	f.Add(`{"metadata":null,"spec":{"template":{"spec":{"containers":[null]}}}}`, `{}`)
	f.Add(`{"metadata":{"annotations":{"reloader.stakater.com/auto":"yes"}}}`, `[]`)
	f.Fuzz(func(t *testing.T, object, old string) {
		w, err := New(Options{Settings: policy.Settings{Keys: annotation.DefaultKeys()}})
		require.NoError(t, err)
		for name, handle := range map[string]handler{
			"mutate": w.mutateWorkload, "validate": w.validateWorkload, "source": w.validateSource,
		} {
			for _, kind := range []metav1.GroupVersionKind{{Group: "apps", Kind: "Deployment"}, {Group: "apps", Kind: "StatefulSet"}, {Kind: "Secret"}} {
				v, err := w.endpoint(name, handle).try(admissionRequest(kind, object, old))
				var fault *panicError
				require.NotErrorAs(t, err, &fault)
				for _, warning := range v.Warnings {
					require.LessOrEqual(t, len(warning), 120)
				}
				if v.patch != nil {
					require.True(t, json.Valid(v.patch))
				}
			}
		}
	})
}

func BenchmarkEndpoints(b *testing.B) {
	d := deployment(map[string]string{auto: "true", named: "one,two,three-.*"}, func(d *appsv1.Deployment) {
		d.UID, d.Generation = "uid-1", 7
		d.Spec.Template = template("a", "b", "c")
		for i := range 20 {
			d.Spec.Template.Spec.Containers[0].Env = append(d.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("VAR_%d", i), Value: "value"})
		}
	})
	raw, err := json.Marshal(d)
	require.NoError(b, err)
	w, err := New(Options{Settings: policy.Settings{Keys: annotation.DefaultKeys()}})
	require.NoError(b, err)
	workload := metav1.GroupVersionKind{Group: "apps", Kind: "Deployment"}
	secret := `{"metadata":{"name":"s","annotations":{"reloader.stakater.com/match":"true"}},"data":{"a":"` + strings.Repeat("eHh4", 10_000) + `"}}`
	for _, bench := range []struct {
		name   string
		handle handler
		kind   metav1.GroupVersionKind
		object string
	}{
		{"mutate-workload", w.mutateWorkload, workload, string(raw)},
		{"validate-workload", w.validateWorkload, workload, string(raw)},
		{"validate-source", w.validateSource, metav1.GroupVersionKind{Kind: "Secret"}, secret},
	} {
		b.Run(bench.name, func(b *testing.B) {
			e := w.endpoint(bench.name, bench.handle)
			req := admissionRequest(bench.kind, bench.object, bench.object)
			b.ReportAllocs()
			for b.Loop() {
				if response := e.Handle(b.Context(), req); !response.Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
}
