package annotation_test

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

func TestTheTableHasEveryFieldOfKeysOnce(t *testing.T) {
	t.Parallel()
	var (
		k      annotation.Keys
		fields = reflect.ValueOf(&k).Elem()
		want   []string
	)
	for i := range fields.NumField() {
		name := "example.com/" + strconv.Itoa(i)
		fields.Field(i).SetString(name)
		want = append(want, name)
	}
	var got []string
	for a := range k.All() {
		got = append(got, a.Key)
	}
	slices.Sort(want)
	slices.Sort(got)
	assert.Equal(t, want, got, "a field of Keys needs one row of the table")
}

func TestEveryAnnotationIsDescribed(t *testing.T) {
	t.Parallel()
	keys, k := map[string]bool{}, annotation.DefaultKeys()
	for a := range k.All() {
		assert.True(t, annotation.Ours(a.Key), "%s is in a domain of our own", a.Key)
		assert.False(t, keys[a.Key], "%s stands for one annotation", a.Key)
		keys[a.Key] = true
		assert.NotZero(t, a.Role, a.Key)
		assert.NotZero(t, a.Places, a.Key)
		assert.Equal(t, a.Role == annotation.Tag, a.Places == annotation.Source, "%s: tags stand on sources, and nothing else does", a.Key)
	}
	flags := map[string]bool{}
	for _, f := range k.Flags() {
		assert.True(t, keys[f.Default], f.Name)
		assert.Equal(t, f.Default, *f.Key, f.Name)
		assert.False(t, flags[f.Name], f.Name)
		flags[f.Name] = true
		assert.NotEmpty(t, f.Usage, f.Name)
	}
}

// The lists are written out, so that a row which moves to another place is seen
// as the change of behaviour that it is.
func TestOn(t *testing.T) {
	t.Parallel()
	k := annotation.DefaultKeys()
	template := []string{
		k.Auto, k.ConfigMapAuto, k.SecretAuto, k.SecretProviderClassAuto,
		k.ConfigMapNamed, k.SecretNamed, k.SecretProviderClassNamed,
		k.ConfigMapExclude, k.SecretExclude, k.SecretProviderClassExclude, k.Search,
	}
	assert.Equal(t, template, k.On(annotation.Template))
	assert.Equal(t, append(template, k.RolloutStrategy, k.CoalesceWindow, k.PausePeriod), k.On(annotation.Workload))
	assert.Equal(t, []string{k.Match, k.Ignore}, k.On(annotation.Source))
}

func TestTypedKeysConcernTheirKindOfSource(t *testing.T) {
	t.Parallel()
	k := annotation.DefaultKeys()
	for a := range k.All() {
		for _, kind := range reloader.SourceKinds() {
			typed := []string{k.TypedAuto(kind), k.Named(kind), k.Exclude(kind)}
			assert.Equal(t, a.Source == kind, slices.Contains(typed, a.Key), "%s and %s", a.Key, kind)
		}
	}
	for _, key := range []string{k.TypedAuto("Pod"), k.Named("Pod"), k.Exclude("Pod")} {
		assert.Empty(t, key)
	}
}

func TestAFlagRenamesItsAnnotation(t *testing.T) {
	t.Parallel()
	k := annotation.DefaultKeys()
	for _, f := range k.Flags() {
		*f.Key = "example.com/" + f.Name
	}
	assert.Equal(t, "example.com/auto-annotation", k.Auto)
	assert.Contains(t, k.On(annotation.Source), "example.com/ignore-annotation")
	assert.Equal(t, map[string]string{"example.com/auto-annotation": "true"},
		k.TemplateSubset(map[string]string{"example.com/auto-annotation": "true", annotation.DefaultKeys().Auto: "false"}))
}

func TestTemplateSubset(t *testing.T) {
	t.Parallel()
	k := annotation.DefaultKeys()
	assert.Nil(t, k.TemplateSubset(nil))
	assert.Nil(t, k.TemplateSubset(map[string]string{"a": "b", k.PausePeriod: "5m", k.LastReloadedFrom: "{}"}))
	want := map[string]string{
		k.Auto: "", k.Search: "x", k.ConfigMapAuto: "1", k.SecretNamed: "2", k.SecretProviderClassExclude: "3",
	}
	all := map[string]string{
		k.Auto: "", k.Search: "x", k.ConfigMapAuto: "1", k.SecretNamed: "2", k.SecretProviderClassExclude: "3",
		k.LastReloadedFrom: "{}", k.Index: "{}",
	}
	assert.Equal(t, want, k.TemplateSubset(all))
}

func TestOurs(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]bool{
		"reloader.stakater.com/anything":              true,
		"secret.reloader.stakater.com/anything":       true,
		"reloader.stakater.com":                       true,
		"myreloader.stakater.com/auto":                false,
		"stakater.com/reloader":                       false,
		"reloader.stakater.com.evil.com/auto":         false,
		strings.ToUpper("reloader.stakater.com/auto"): false,
		"": false,
	} {
		assert.Equal(t, want, annotation.Ours(key), key)
	}
}
