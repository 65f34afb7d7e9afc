package reference_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/excerpt"
	"k8s-reloader/reloader/reference"
)

// FuzzOf holds for any spec: no panic; the order of volumes, mounts, variables
// and pull secrets makes no difference; no two references are the same use;
// and every name, key and container of a reference stands in the spec.
func FuzzOf(f *testing.F) {
	for _, seed := range []string{
		`{}`,
		`{"containers":[{"name":"a","envFrom":[{"configMapRef":{"name":"cm"}}],"env":[{"name":"E","valueFrom":{"secretKeyRef":{"name":"s","key":"k","optional":true}}}]}]}`,
		`{"containers":[{"name":"a","volumeMounts":[{"name":"v"},{"name":"w"}]}],"volumes":[{"name":"v","secret":{"secretName":"s","items":[{"key":"k"}]}},{"name":"w","secret":{"secretName":"s"}},{"name":"w","configMap":{"name":"s"}}]}`,
		`{"initContainers":[{"name":"a","volumeMounts":[{"name":"v"}]}],"ephemeralContainers":[{"name":"a","volumeMounts":[{"name":"v"}]}],"volumes":[{"name":"v","projected":{"sources":[{"secret":{"name":"s"}},{"configMap":{"name":"c","optional":true}}]}}]}`,
		`{"imagePullSecrets":[{"name":"p"}],"volumes":[{"name":"v","csi":{"driver":"secrets-store.csi.k8s.io","volumeAttributes":{"secretProviderClass":"c"},"nodePublishSecretRef":{"name":"n"}}},{"name":"r","rbd":{"secretRef":{"name":"r"}}}]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var spec corev1.PodSpec
		if json.Unmarshal([]byte(text), &spec) != nil {
			t.Skip("not a pod spec")
		}
		before := spec.DeepCopy()

		got := reference.Of(&spec)

		require.Equal(t, before, &spec, "the spec is not changed")
		assertFromSpec(t, &spec, got)
		reverse(&spec)
		assert.Equal(t, got, reference.Of(&spec), "the order makes no difference")
		assert.Equal(t, got, reference.Of(excerptOf(t, &spec)), "Fields are all that counts")
	})
}

// excerptOf returns what is left of a spec when only Fields are taken.
func excerptOf(t *testing.T, spec *corev1.PodSpec) *corev1.PodSpec {
	t.Helper()
	text, err := json.Marshal(spec)
	require.NoError(t, err)
	taken, err := excerpt.Take(text, excerpt.Field{Members: reference.Fields()}, 1<<30)
	require.NoError(t, err)
	var left corev1.PodSpec
	require.NoError(t, json.Unmarshal(taken.JSON, &left))
	return &left
}

func assertFromSpec(t *testing.T, spec *corev1.PodSpec, refs []reloader.Reference) {
	t.Helper()
	text, err := json.Marshal(spec)
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, ref := range refs {
		require.NotEmpty(t, ref.Name)
		for _, word := range append([]string{ref.Name, ref.Container}, ref.Keys...) {
			quoted, err := json.Marshal(word)
			require.NoError(t, err)
			if word != "" && !strings.Contains(string(text), string(quoted)) {
				t.Errorf("%q is not in the spec", word)
			}
		}
		assert.True(t, slices.IsSorted(ref.Keys))
		use := strings.Join([]string{
			string(ref.Kind), strconv.Quote(ref.Name), strconv.Quote(ref.Container), strconv.FormatBool(ref.Init), string(ref.How),
		}, " ")
		assert.False(t, seen[use], "%s is there twice", use)
		seen[use] = true
	}
}

// reverse turns around every list of spec whose order must not matter.
func reverse(spec *corev1.PodSpec) {
	slices.Reverse(spec.Volumes)
	slices.Reverse(spec.ImagePullSecrets)
	for i := range spec.Volumes {
		if p := spec.Volumes[i].Projected; p != nil {
			slices.Reverse(p.Sources)
		}
	}
	for _, containers := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i := range containers {
			slices.Reverse(containers[i].Env)
			slices.Reverse(containers[i].EnvFrom)
			slices.Reverse(containers[i].VolumeMounts)
		}
	}
}
