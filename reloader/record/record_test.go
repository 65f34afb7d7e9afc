package record_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/record"
)

func TestNew(t *testing.T) {
	template := testTemplate()
	before := template.DeepCopy()
	k := annotation.DefaultKeys()
	id := record.Identity{Namespace: "shop", Name: "web", UID: "u-1", Generation: 3}

	got := record.New(id, template, "00ff", k)

	assert.Equal(t, before, template, "the template is not changed")
	assert.NotEmpty(t, got.Keys)
	want := record.Record{
		Version:    record.Version,
		Namespace:  "shop",
		Name:       "web",
		UID:        "u-1",
		Generation: 3,
		Template:   "00ff",
		Container:  "app",
		References: []reloader.Reference{
			{Kind: reloader.ConfigMap, Name: "settings", Container: "app", How: reloader.HowEnvFrom},
			{Kind: reloader.Secret, Name: "db", Container: "migrate", Init: true, How: reloader.HowEnv, Keys: []string{"password"}, Optional: true},
		},
		Annotations: map[string]string{"reloader.stakater.com/auto": "true"},
		Keys:        got.Keys,
	}
	assert.Equal(t, want, got)
}

func TestFits(t *testing.T) {
	k := annotation.DefaultKeys()
	id := record.Identity{Namespace: "shop", Name: "web", UID: "u-1", Generation: 3}
	otherKeys := k
	otherKeys.Search = "example.com/search"
	tests := map[string]struct {
		change func(r *record.Record)
		id     record.Identity
		keys   annotation.Keys
		want   error
	}{
		"the state that it was made for":        {id: id, keys: k},
		"made before there was a uid":           {change: func(r *record.Record) { r.UID = "" }, id: id, keys: k},
		"the version before":                    {change: func(r *record.Record) { r.Version-- }, id: id, keys: k},
		"another version":                       {change: func(r *record.Record) { r.Version++ }, id: id, keys: k, want: record.MisfitVersion},
		"copied to another namespace":           {id: record.Identity{Namespace: "other", Name: "web", UID: "u-1", Generation: 3}, keys: k, want: record.MisfitNamespace},
		"copied to another name":                {id: record.Identity{Namespace: "shop", Name: "web2", UID: "u-1", Generation: 3}, keys: k, want: record.MisfitName},
		"deleted and made again":                {id: record.Identity{Namespace: "shop", Name: "web", UID: "u-2", Generation: 3}, keys: k, want: record.MisfitUID},
		"changed since":                         {id: record.Identity{Namespace: "shop", Name: "web", UID: "u-1", Generation: 4}, keys: k, want: record.MisfitGeneration},
		"made for a generation yet to come":     {id: record.Identity{Namespace: "shop", Name: "web", UID: "u-1", Generation: 2}, keys: k, want: record.MisfitGeneration},
		"made with other annotation keys":       {id: id, keys: otherKeys, want: record.MisfitKeys},
		"carried forward to the new generation": {change: func(r *record.Record) { *r = r.WithGeneration(4) }, id: record.Identity{Namespace: "shop", Name: "web", UID: "u-1", Generation: 4}, keys: k},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := record.New(id, testTemplate(), "00ff", k)
			if tc.change != nil {
				tc.change(&r)
			}
			require.ErrorIs(t, r.Fits(tc.id, tc.keys), tc.want)
		})
	}
	assert.EqualError(t, record.MisfitGeneration, "index record was made for another generation")
}

// TestEveryKeyCounts changes each annotation key in turn: a record that was
// made with any other key must not be trusted.
func TestEveryKeyCounts(t *testing.T) {
	id := record.Identity{Namespace: "shop", Name: "web", Generation: 1}
	r := record.New(id, testTemplate(), "00ff", annotation.DefaultKeys())
	for i := range reflect.TypeFor[annotation.Keys]().NumField() {
		k := annotation.DefaultKeys()
		reflect.ValueOf(&k).Elem().Field(i).SetString("example.com/other")
		assert.ErrorIs(t, r.Fits(id, k), record.MisfitKeys, reflect.TypeFor[annotation.Keys]().Field(i).Name)
	}
}

func TestWithGenerationLeavesTheOriginalAlone(t *testing.T) {
	r := record.Record{Generation: 1}
	assert.EqualValues(t, 2, r.WithGeneration(2).Generation)
	assert.EqualValues(t, 1, r.Generation)
}

func BenchmarkNew(b *testing.B) {
	template, k := testTemplate(), annotation.DefaultKeys()
	id := record.Identity{Namespace: "shop", Name: "web", Generation: 3}
	b.ReportAllocs()
	for b.Loop() {
		_ = record.New(id, template, "00ff", k)
	}
}

func BenchmarkFits(b *testing.B) {
	k := annotation.DefaultKeys()
	id := record.Identity{Namespace: "shop", Name: "web", Generation: 3}
	r := record.New(id, testTemplate(), "00ff", k)
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Fits(id, k)
	}
}

func BenchmarkEncode(b *testing.B) {
	for name, r := range benchmarkRecords(b) {
		b.Run(name, func(b *testing.B) {
			text, err := r.Encode()
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = r.Encode()
			}
			b.ReportMetric(float64(len(text)), "B/record")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, r := range benchmarkRecords(b) {
		b.Run(name, func(b *testing.B) {
			text, err := r.Encode()
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = record.Decode(text)
			}
		})
	}
}

func benchmarkRecords(b *testing.B) map[string]record.Record {
	b.Helper()
	small := record.New(record.Identity{Namespace: "shop", Name: "web", UID: "0fa3c1de-4d2c-4d2e-9f3a-1f6f0c6a8c11", Generation: 3}, testTemplate(), "00ff", annotation.DefaultKeys())
	large := small
	for i := range 500 {
		large.References = append(large.References, reloader.Reference{
			Kind: reloader.Secret, Name: fmt.Sprintf("secret-%d", i), Container: "app", How: reloader.HowEnv, Keys: []string{"password"},
		})
	}
	return map[string]record.Record{"2 references": small, "502 references": large}
}

func testTemplate() *corev1.PodTemplateSpec {
	optional := true
	return &corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels: map[string]string{"app": "web"},
			Annotations: map[string]string{
				"reloader.stakater.com/auto": "true",
				"prometheus.io/scrape":       "true",
			},
		},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name:    "app",
				Image:   "web:1",
				Env:     []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "C", Value: "d"}},
				EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}},
			}, {
				Name:  "side",
				Image: "side:1",
			}},
			InitContainers: []corev1.Container{{
				Name:  "migrate",
				Image: "migrate:1",
				Env: []corev1.EnvVar{{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
					LocalObjectReference: corev1.LocalObjectReference{Name: "db"}, Key: "password", Optional: &optional,
				}}}},
			}},
		},
	}
}

// A new digest makes every record of a cluster one that is not trusted, so that
// an upgrade reads all workloads.
func TestTheDigestOfTheKeysStays(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "c2a7af4eb24766b6", record.KeysDigest(annotation.DefaultKeys()))
}
