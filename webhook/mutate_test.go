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
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/record"
)

// applied returns d as it is after the patch of a response, which may touch
// nothing but our annotation.
func applied(t *testing.T, d *appsv1.Deployment, response *admissionv1.AdmissionResponse) *appsv1.Deployment {
	t.Helper()
	require.True(t, response.Allowed)
	require.Empty(t, response.Warnings)
	d = d.DeepCopy()
	if response.Patch == nil {
		require.Nil(t, response.PatchType)
		return d
	}
	require.Equal(t, admissionv1.PatchTypeJSONPatch, *response.PatchType)
	var ops []struct {
		Op, Path string
		Value    json.RawMessage
	}
	require.NoError(t, json.Unmarshal(response.Patch, &ops))
	require.Len(t, ops, 1)
	const one = "/metadata/annotations/reloader.stakater.com~1index"
	_, had := d.Annotations[index]
	switch op := ops[0]; {
	case op.Op == "add" && op.Path == "/metadata/annotations":
		require.Empty(t, d.Annotations)
		require.NoError(t, json.Unmarshal(op.Value, &d.Annotations))
		require.Len(t, d.Annotations, 1)
	case op.Op == "add" && op.Path == one && !had && d.Annotations != nil,
		op.Op == "replace" && op.Path == one && had:
		var value string
		require.NoError(t, json.Unmarshal(op.Value, &value))
		d.Annotations[index] = value
	case op.Op == "remove" && op.Path == one && had:
		delete(d.Annotations, index)
	default:
		require.Fail(t, "unexpected patch", "%s %s", op.Op, op.Path)
	}
	return d
}

// stored returns an opted in Deployment as the API server keeps it, with the
// record that belongs to it.
func stored(t *testing.T, generation int64, change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	t.Helper()
	d := deployment(map[string]string{auto: "true"}, change...)
	d.UID, d.Generation = "uid-1", generation
	text, err := record.New(record.Identity{Namespace: "shop", Name: "web", UID: "uid-1", Generation: generation},
		&d.Spec.Template, hashOf(t, d), annotation.DefaultKeys()).Encode()
	require.NoError(t, err)
	d.Annotations[index] = text
	return d
}

func hashOf(t *testing.T, d *appsv1.Deployment) string {
	t.Helper()
	k, _ := kind.BuiltIn().ByName(reloader.Deployment)
	hash, err := decoded(t, k, d).TemplateHash(annotation.DefaultKeys())
	require.NoError(t, err)
	return hash
}

func TestMutateOnCreate(t *testing.T) {
	t.Parallel()
	exported := map[string]string{auto: "true", index: `{"v":1,"from":"elsewhere"}`}
	tests := map[string]struct {
		object     *appsv1.Deployment
		settings   func(*policy.Settings)
		wantPatch  string // the operation, empty: none
		wantResult string
		wantRecord bool
	}{
		"opted in": {
			object: deployment(map[string]string{auto: "true"}), wantPatch: `"op":"add"`, wantResult: recordWritten, wantRecord: true,
		},
		"opted in on the template, without any annotations": {
			object: deployment(nil, func(d *appsv1.Deployment) {
				d.Spec.Template.Annotations = map[string]string{auto: "true", "other": "x"}
			}),
			wantPatch: `"path":"/metadata/annotations"`, wantResult: recordWritten, wantRecord: true,
		},
		"opted in by auto-reload-all": {
			object:    deployment(nil),
			settings:  func(s *policy.Settings) { s.AutoReloadAll = true },
			wantPatch: `"path":"/metadata/annotations"`, wantResult: recordWritten, wantRecord: true,
		},
		"a manifest with the record of something else": {
			object: deployment(exported), wantPatch: `"op":"replace"`, wantResult: recordWritten, wantRecord: true,
		},
		"a manifest with the UID of something else": {
			object:    deployment(map[string]string{auto: "true"}, func(d *appsv1.Deployment) { d.UID = "elsewhere" }),
			wantPatch: `"op":"add"`, wantResult: recordWritten, wantRecord: true,
		},
		"not opted in": {
			object: deployment(nil), wantResult: recordNone,
		},
		"not opted in any more": {
			object: deployment(map[string]string{auto: "false", index: "x"}), wantPatch: `"op":"remove"`, wantResult: recordRemoved,
		},
		"an empty record and no opt-in": {
			object: deployment(map[string]string{index: ""}), wantPatch: `"op":"remove"`, wantResult: recordRemoved,
		},
		"a name that is yet to be generated": {
			object:     deployment(exported, func(d *appsv1.Deployment) { d.Name, d.GenerateName = "", "web-" }),
			wantPatch:  `"op":"remove"`,
			wantResult: recordRemoved,
		},
		"a record that would be too large": {
			object: deployment(exported, func(d *appsv1.Deployment) {
				for i := range 2000 {
					d.Spec.Template.Spec.Volumes = append(d.Spec.Template.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{
						ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: fmt.Sprintf("a-config-map-with-a-long-name-%d", i)}},
					}})
				}
			}),
			wantPatch: `"op":"remove"`, wantResult: recordTooLarge,
		},
		"a record that would make the annotations larger than the API server takes": {
			object:     deployment(map[string]string{auto: "true", "other": strings.Repeat("x", validation.TotalAnnotationSizeLimitB-1000)}),
			wantResult: recordTooLarge,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, func(o *Options) {
				if tc.settings != nil {
					tc.settings(&o.Settings)
				}
			})
			response := h.send(PathMutateWorkload, request{object: tc.object})
			got := applied(t, tc.object, response)
			if tc.wantPatch == "" {
				assert.Nil(t, response.Patch)
			} else {
				assert.Contains(t, string(response.Patch), tc.wantPatch)
			}
			assert.InDelta(t, 1, testutil.ToFloat64(h.webhook.metrics.records.WithLabelValues(tc.wantResult)), 0)

			text, ok := got.Annotations[index]
			require.Equal(t, tc.wantRecord, ok)
			if ok {
				want, err := record.New(record.Identity{Namespace: "shop", Name: "web", Generation: 1}, &tc.object.Spec.Template, hashOf(t, tc.object), annotation.DefaultKeys()).Encode()
				require.NoError(t, err)
				assert.Equal(t, want, text)
			}
			again := h.send(PathMutateWorkload, request{object: got, dryRun: true})
			assert.Nil(t, again.Patch, "mutating twice is mutating once")
			for key, value := range tc.object.Annotations {
				if key != index {
					assert.Equal(t, value, got.Annotations[key])
				}
			}
		})
	}
}

func TestMutateOnUpdate(t *testing.T) {
	t.Parallel()
	image := func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "web:2" }
	label := func(d *appsv1.Deployment) { d.Labels = map[string]string{"a": "b"} }
	annotation := func(d *appsv1.Deployment) { d.Annotations["a"] = "b" }
	scale := func(d *appsv1.Deployment) { n := int32(3); d.Spec.Replicas = &n }
	drop := func(d *appsv1.Deployment) { delete(d.Annotations, index) }
	forge := func(d *appsv1.Deployment) { d.Annotations[index] = "{}" }
	optOut := func(d *appsv1.Deployment) { delete(d.Annotations, auto) }
	tests := map[string]struct {
		old, change    func(*appsv1.Deployment)
		wantGeneration int64 // of the record; 0: none
		wantPatch      bool
	}{
		"nothing changes":                              {wantGeneration: 7},
		"a label changes":                              {change: label, wantGeneration: 7},
		"the spec changes":                             {change: image, wantGeneration: 8, wantPatch: true},
		"it is scaled":                                 {change: scale, wantGeneration: 8, wantPatch: true},
		"an annotation changes":                        {change: annotation, wantGeneration: 8, wantPatch: true},
		"a PUT leaves the record out":                  {change: drop, wantGeneration: 7, wantPatch: true},
		"a PUT brings another record":                  {change: forge, wantGeneration: 7, wantPatch: true},
		"there was no record":                          {old: drop, wantGeneration: 8, wantPatch: true},
		"there was no record, and the spec changes":    {old: drop, change: image, wantGeneration: 8, wantPatch: true},
		"there was another record":                     {old: forge, wantGeneration: 8, wantPatch: true},
		"there was another record, and a PUT drops it": {old: forge, change: drop, wantGeneration: 8, wantPatch: true},
		"it opts out":                                  {change: optOut, wantPatch: true},
		"it opts out, and a PUT leaves the record out": {change: func(d *appsv1.Deployment) { optOut(d); drop(d) }},
		"the opt-in is new":                            {old: func(d *appsv1.Deployment) { optOut(d); drop(d) }, change: func(d *appsv1.Deployment) { d.Annotations[auto] = "true" }, wantGeneration: 8, wantPatch: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, nil)
			old := stored(t, 7)
			if tc.old != nil {
				tc.old(old)
			}
			updated := old.DeepCopy()
			if tc.change != nil {
				tc.change(updated)
			}
			response := h.send(PathMutateWorkload, request{object: updated, old: old})
			assert.Equal(t, tc.wantPatch, response.Patch != nil, "%s", response.Patch)
			got := applied(t, updated, response)
			text, ok := got.Annotations[index]
			require.Equal(t, tc.wantGeneration != 0, ok)
			if ok {
				r, err := record.Decode(text)
				require.NoError(t, err)
				assert.Equal(t, tc.wantGeneration, r.Generation)
				assert.Equal(t, "uid-1", r.UID)
				// What the record says is what the object as a whole will get.
				k, _ := kind.BuiltIn().ByName(reloader.Deployment)
				assert.Equal(t, k.Generation(decoded(t, k, old), decoded(t, k, got), ""), r.Generation)
			}
			assert.Nil(t, h.send(PathMutateWorkload, request{object: got, old: old}).Patch, "mutating twice is mutating once")
		})
	}
}

func decoded(t *testing.T, k kind.Kind, object any) *kind.Manifest {
	t.Helper()
	raw, err := json.Marshal(object)
	require.NoError(t, err)
	m, err := k.Excerpt(raw, func([]byte) bool { return true })
	require.NoError(t, err)
	return m
}

// A record for the next generation would be trusted when that comes, whatever
// it brings. To write it anew would be to leave it as it is.
func TestMutateRemovesARecordFromTheFuture(t *testing.T) {
	t.Parallel()
	h := newHarness(t, nil)
	old := stored(t, 8)
	old.Generation = 7
	got := applied(t, old, h.send(PathMutateWorkload, request{object: old, old: old}))
	assert.NotContains(t, got.Annotations, index)
	old = stored(t, 12)
	old.Generation = 7
	got = applied(t, old, h.send(PathMutateWorkload, request{object: old, old: old}))
	r, err := record.Decode(got.Annotations[index])
	require.NoError(t, err)
	assert.EqualValues(t, 8, r.Generation, "the generation that writing it makes")
}

// A dry run of an unchanged manifest, and any write that raises no generation,
// leaves a record that says the same.
func TestMutateLeavesAnEquivalentRecord(t *testing.T) {
	t.Parallel()
	edit := func(old *appsv1.Deployment, change func(*record.Record)) {
		r, err := record.Decode(old.Annotations[index])
		require.NoError(t, err)
		change(&r)
		old.Annotations[index], err = r.Encode()
		require.NoError(t, err)
	}
	version1 := func(r *record.Record) { r.Version, r.Template = 1, "of Go types" }
	tests := map[string]struct {
		old    func(*appsv1.Deployment)
		update func(*appsv1.Deployment)
		// want of the record that comes: its generation, 0 if the text stays.
		want        int64
		wantVersion int
	}{
		"from the creation":                    {old: func(d *appsv1.Deployment) { edit(d, func(r *record.Record) { r.UID, r.Generation = "", 1 }) }},
		"behind, since somebody has scaled it": {old: func(d *appsv1.Deployment) { d.Generation += 5 }},
		"of the version before":                {old: func(d *appsv1.Deployment) { edit(d, version1) }},
		"of the version before, behind": {
			old: func(d *appsv1.Deployment) { edit(d, version1); d.Generation++ },
		},
		"that a manifest left out":                {update: func(d *appsv1.Deployment) { delete(d.Annotations, index) }},
		"that a manifest brought in another form": {update: func(d *appsv1.Deployment) { d.Annotations[index] = "exported" }},
		"and a label": {update: func(d *appsv1.Deployment) { d.Labels = map[string]string{"a": "b"} }},
		"and our marks, which raise the generation": {
			update: func(d *appsv1.Deployment) {
				d.Spec.Template.Spec.Containers[0].Env = append(d.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "STAKATER_X_SECRET", Value: "v1-0"})
			},
			want: 8, wantVersion: record.Version,
		},
		"of the version before, and replicas": {
			old:    func(d *appsv1.Deployment) { edit(d, version1) },
			update: func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(7)) },
			want:   8, wantVersion: 1,
		},
		"of the version before, and another template": {
			old:    func(d *appsv1.Deployment) { edit(d, version1) },
			update: func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "web:2" },
			want:   8, wantVersion: record.Version,
		},
		"no: it lies about references": {
			old:  func(d *appsv1.Deployment) { edit(d, func(r *record.Record) { r.References = nil; r.Container = "x" }) },
			want: 8, wantVersion: record.Version,
		},
		"no: it is of another template": {
			old:  func(d *appsv1.Deployment) { edit(d, func(r *record.Record) { r.Template = "00" }) },
			want: 8, wantVersion: record.Version,
		},
		"no: it is another workload's": {
			old:  func(d *appsv1.Deployment) { edit(d, func(r *record.Record) { r.UID = "uid-2" }) },
			want: 8, wantVersion: record.Version,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, nil)
			old := stored(t, 7)
			if tc.old != nil {
				tc.old(old)
			}
			updated := old.DeepCopy()
			if tc.update != nil {
				tc.update(updated)
			}
			got := applied(t, updated, h.send(PathMutateWorkload, request{object: updated, old: old}))
			if tc.want == 0 {
				assert.Equal(t, old.Annotations[index], got.Annotations[index])
				return
			}
			r, err := record.Decode(got.Annotations[index])
			require.NoError(t, err)
			assert.Equal(t, tc.want, r.Generation)
			assert.Equal(t, tc.wantVersion, r.Version)
			assert.Equal(t, "uid-1", r.UID)
		})
	}
}

// StatefulSets and DaemonSets count the spec only.
func TestMutateKindsThatCountTheSpecOnly(t *testing.T) {
	t.Parallel()
	h := newHarness(t, nil)
	meta := metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "uid-1", Generation: 7, Annotations: map[string]string{auto: "true"}}
	for _, name := range []string{"StatefulSet", "DaemonSet"} {
		object := func(change func(*metav1.ObjectMeta, *corev1.PodTemplateSpec)) any {
			m, tpl := *meta.DeepCopy(), template()
			if change != nil {
				change(&m, &tpl)
			}
			if name == "StatefulSet" {
				return &appsv1.StatefulSet{ObjectMeta: m, Spec: appsv1.StatefulSetSpec{Template: tpl}}
			}
			return &appsv1.DaemonSet{ObjectMeta: m, Spec: appsv1.DaemonSetSpec{Template: tpl}}
		}
		send := func(object, old any) string {
			return string(h.send(PathMutateWorkload, request{
				object: object, old: old, kind: metav1.GroupVersionKind{Group: "apps", Version: "v1", Kind: name},
			}).Patch)
		}
		assert.Contains(t, send(object(nil), object(nil)), `\"g\":7,`, "writing the record raises nothing")
		assert.Contains(t, send(object(func(m *metav1.ObjectMeta, _ *corev1.PodTemplateSpec) { m.Annotations["a"] = "b" }), object(nil)), `\"g\":7,`)
		assert.Contains(t, send(object(func(_ *metav1.ObjectMeta, tpl *corev1.PodTemplateSpec) {
			tpl.Spec.Containers[0].Image = "web:2"
		}), object(nil)), `\"g\":8,`)
		assert.Contains(t, send(object(nil), nil), `\"g\":1,`)
	}
}

func TestMutateOnlyCreateAndUpdate(t *testing.T) {
	t.Parallel()
	h := newHarness(t, nil)
	d := deployment(map[string]string{auto: "true"})
	assert.Nil(t, h.send(PathMutateWorkload, request{object: d, subresource: "scale"}).Patch)
	assert.Nil(t, h.send(PathMutateWorkload, request{old: d, operation: admissionv1.Delete}).Patch)
	assert.Nil(t, h.send(PathMutateWorkload, request{operation: admissionv1.Connect}).Patch)
	assert.InDelta(t, 3, h.answers("mutate-workload", answerAllowed), 0)
}

// Nothing that somebody writes into the old record keeps the rest from working.
func TestMutateWithHostileRecords(t *testing.T) {
	t.Parallel()
	h := newHarness(t, nil)
	for _, text := range []string{"", "null", strings.Repeat("[", 100_000), `{"v":2}`} {
		old := stored(t, 3)
		old.Annotations[index] = text
		got := applied(t, old, h.send(PathMutateWorkload, request{object: old, old: old}))
		r, err := record.Decode(got.Annotations[index])
		require.NoError(t, err)
		assert.Equal(t, int64(4), r.Generation)
	}
}

func TestMutateWhenAPutLeavesTheUIDOut(t *testing.T) {
	t.Parallel()
	h := newHarness(t, nil)
	old := stored(t, 7)
	updated := old.DeepCopy()
	updated.UID = ""
	response := h.send(PathMutateWorkload, request{object: updated, old: old})
	assert.True(t, response.Allowed)
	assert.Nil(t, response.Patch, "another record would raise the generation for nothing")
}

func TestMutateWhenAPutLeavesAllAnnotationsOut(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(o *Options) { o.Settings.AutoReloadAll = true })
	old := stored(t, 7)
	delete(old.Annotations, auto)
	updated := old.DeepCopy()
	updated.Annotations = nil
	got := applied(t, updated, h.send(PathMutateWorkload, request{object: updated, old: old}))
	assert.Equal(t, old.Annotations, got.Annotations, "the old record comes back, and so nothing has changed")
}
