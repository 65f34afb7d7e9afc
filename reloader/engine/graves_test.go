package engine

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
)

// oneByOne serves the ConfigMaps that are in present.
func oneByOne(t *testing.T, present map[string]corev1.ConfigMap) *script {
	t.Helper()
	return play(t, func(r request) (int, http.Header, any) {
		if strings.HasSuffix(r.path, "/configmaps") {
			return http.StatusOK, nil, corev1.ConfigMapList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"}}
		}
		name := r.path[strings.LastIndex(r.path, "/")+1:]
		if o, ok := present[name]; ok {
			return http.StatusOK, nil, o
		}
		return failure(apierrors.NewNotFound(corev1.Resource("configmaps"), name))
	})
}

// A tenant with a pattern creates and deletes ConfigMaps under ever new names.
func TestSourcesThatAreGoneTakeABoundedAmountOfMemory(t *testing.T) {
	const rounds = 3 * maxGraves
	tests := map[string]struct {
		// retires has the workload gone before each source is.
		retires bool
		list    string
		want    int
	}{
		"a pattern":                           {false, ".*", maxGraves},
		"a pattern and a name":                {false, ".*,named-0", maxGraves + 1},
		"a pattern that goes before a source": {true, ".*", 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			present := map[string]corev1.ConfigMap{}
			e := newTestEngine(t, oneByOne(t, present).config, new(told))
			patterned := newApp(worker).with(func(a *app) {
				a.annotations, a.configMaps = map[string]string{keys.ConfigMapNamed: tc.list}, nil
			})
			e.intake.observe(worker, patterned.recorded(t).meta(), at(1))
			require.NoError(t, readQueued(t, e))
			for i := range rounds {
				name, version := fmt.Sprint("named-", i), uint64(100+10*i)
				present[name] = configMapObject(name, fmt.Sprint(version), "1")
				if tc.retires {
					e.intake.observe(worker, patterned.recorded(t).meta(), at(version-1))
				}
				event(e, name, fmt.Sprint(version), created)
				require.NoError(t, readQueued(t, e))
				delete(present, name)
				if tc.retires {
					e.intake.deleted(worker)
				}
				e.sourceDeleted(configMap(name), version+1)
				require.NoError(t, readQueued(t, e))
			}
			assert.Len(t, e.ledger.sources, tc.want)
		})
	}
}

func TestContentOfASourceThatIsGoneIsRemembered(t *testing.T) {
	present := map[string]corev1.ConfigMap{"app": configMapObject("app", "5", "1")}
	e := newTestEngine(t, oneByOne(t, present).config, new(told))
	patterned := newApp(worker).with(func(a *app) {
		a.annotations, a.configMaps = map[string]string{keys.ConfigMapNamed: ".*"}, nil
	})
	e.intake.observe(worker, patterned.recorded(t).meta(), at(1))
	event(e, "app", "5", updated)
	require.NoError(t, readQueued(t, e))
	for i := range maxGraves + 1 {
		delete(present, "app")
		e.sourceDeleted(configMap("app"), uint64(10+10*i))
		require.NoError(t, readQueued(t, e))
		version := fmt.Sprint(15 + 10*i)
		present["app"] = configMapObject("app", version, "1")
		event(e, "app", version, created)
		require.NoError(t, readQueued(t, e))
		require.Empty(t, e.ledger.due(worker), "it is the same again")
	}
	delete(present, "app")
	e.sourceDeleted(configMap("app"), 1_000_000)
	require.NoError(t, readQueued(t, e))
	present["app"] = configMapObject("app", "1000001", "2")
	event(e, "app", "1000001", created)
	require.NoError(t, readQueued(t, e))
	assert.Equal(t, []reloader.Source{configMap("app")}, sourcesOf(e.ledger.due(worker)))
	assert.Len(t, e.ledger.graves[shelfOf(configMap("app"))].order, 1)
}
