package engine

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/record"
)

// A template is read before its patch only where a merge might move something, or
// where a record of the first version does not tell.
func TestWhenATemplateIsReadBeforeItsPatch(t *testing.T) {
	const merge, places = string(types.StrategicMergePatchType), string(types.JSONPatchType)
	tests := map[string]struct {
		odd       bool
		version   int // of the record; 0 is none
		conflicts int
		want      []string
	}{
		"an ordinary one":                 {version: 2, want: []string{merge}},
		"an ordinary one, without record": {want: []string{merge}},
		"a name twice":                    {odd: true, version: 2, want: []string{"GET", places}},
		"a name twice, without record":    {odd: true, want: []string{"GET", places}},
		"a first record, an ordinary one": {version: 1, want: []string{"GET", merge}},
		"a first record, a name twice":    {odd: true, version: 1, want: []string{"GET", places}},
		"its controller writes meanwhile": {odd: true, version: 2, conflicts: 2, want: []string{"GET", places, "GET", places, "GET", places}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			object := newApp(web).object().(*appsv1.Deployment)
			object.ResourceVersion = "7"
			if tc.odd {
				object.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A"}, {Name: "B"}, {Name: "A"}}
			}
			conflicts := tc.conflicts
			var asked []string
			server := play(t, func(r request) (int, http.Header, any) {
				if r.method == http.MethodGet {
					asked = append(asked, "GET")
					whole := object.DeepCopy()
					whole.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
					return http.StatusOK, nil, whole
				}
				asked = append(asked, r.header.Get("Content-Type"))
				if conflicts > 0 {
					conflicts--
					return failure(apierrors.NewConflict(appsv1.Resource("deployments"), "web", assert.AnError))
				}
				patched := object.ObjectMeta
				patched.Generation++
				return http.StatusOK, nil, metav1.PartialObjectMetadata{
					TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"}, ObjectMeta: patched,
				}
			})
			e := newTestEngine(t, server.config, new(told))
			a := newApp(web)
			if tc.version > 0 {
				rec := record.New(record.Identity{Namespace: web.Namespace, Name: web.Name, UID: string(object.UID), Generation: object.Generation},
					&object.Spec.Template, "00ff", keys)
				if rec.Version = tc.version; tc.version == 1 {
					rec.ByPlace = false
				}
				text, err := rec.Encode()
				require.NoError(t, err)
				a.annotations[keys.Index] = text
			}
			e.intake.observe(web, a.meta(), moment{})
			if e.intake.open(web) {
				require.True(t, e.intake.supply(readAs(t, web.Kind, object)))
			}
			for _, c := range []content{written(5, "a"), written(30, "b")} {
				e.ledger.take(settings)
				e.ledger.look(settings, c, func() []reloader.Workload { return []reloader.Workload{web} })
			}
			require.NoError(t, e.reload(t.Context(), web))
			assert.Equal(t, tc.want, asked)
			assert.Empty(t, e.ledger.due(web))
		})
	}
}
