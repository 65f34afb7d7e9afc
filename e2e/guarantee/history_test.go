package guarantee

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/guarantee/history"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// impostor plays the product for an app of its own, which depends on a ConfigMap
// and a Secret of its name.
type impostor struct {
	*world
	app fixture.App
}

func (p impostor) configMap(value string) { p.set(p.app.Name, value) }

func (p impostor) secret(value string) {
	require.NoError(p.t, fixture.SetSecret(p.t.Context(), p.client, p.apps, p.app.Name, map[string]string{"value": value}))
}

// reload writes what a reload writes, because of a source of that name.
func (p impostor) reload(k reloader.SourceKind, name, mark string) {
	p.t.Helper()
	patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"app","env":[{"name":%q,"value":%q}]}]}}}}`, reloader.EnvName(k, name), mark)
	request := p.on(p.app, p.client.AppsV1().RESTClient().Patch(types.StrategicMergePatchType))
	require.NoError(p.t, request.Param("fieldManager", history.Manager).Body([]byte(patch)).Do(p.t.Context()).Error())
}

func (p impostor) owner() { p.patchApp(p.app, newImage) }

// TestTheHistoryFindsWhatIsWrong has no engine: what one would do wrong is done
// to the API server by hand, and has to be found in etcd. Without it, a history
// that sees nothing would pass every test here.
func TestTheHistoryFindsWhatIsWrong(t *testing.T) {
	// What else happens has come to the engine by then.
	crossed := func(p impostor) { p.wait(time.Second) }
	tests := map[string]struct {
		kind        reloader.WorkloadKind // default Deployment
		does        func(p impostor)
		want        history.Verdict // empty: it is right
		wantReloads int
	}{
		"a change that is rolled out": {
			does:        func(p impostor) { p.configMap("B"); p.reload(reloader.ConfigMap, p.app.Name, "b-t") },
			wantReloads: 1,
		},
		"a change that the owner rolls out":   {does: func(p impostor) { p.configMap("B"); p.owner() }},
		"the same data again":                 {does: func(p impostor) { p.configMap("A") }},
		"a change that nobody rolls out":      {does: func(p impostor) { p.configMap("B") }, want: history.Lost},
		"one of a Secret":                     {does: func(p impostor) { p.secret("B") }, want: history.Lost},
		"one that a StatefulSet does not get": {kind: reloader.StatefulSet, does: func(p impostor) { p.configMap("B") }, want: history.Lost},
		"one that a DaemonSet does not get":   {kind: reloader.DaemonSet, does: func(p impostor) { p.secret("B") }, want: history.Lost},
		"a change after the one that is rolled out": {
			does: func(p impostor) {
				p.configMap("B")
				p.reload(reloader.ConfigMap, p.app.Name, "b-t")
				p.configMap("C")
			},
			want: history.Lost, wantReloads: 1,
		},
		"a change that is rolled out twice": {
			does: func(p impostor) {
				p.configMap("B")
				p.reload(reloader.ConfigMap, p.app.Name, "b-t")
				p.reload(reloader.ConfigMap, p.app.Name, "b-u")
			},
			want: history.Extra, wantReloads: 2,
		},
		"a StatefulSet that is reloaded without a change": {
			kind: reloader.StatefulSet,
			does: func(p impostor) { crossed(p); p.reload(reloader.ConfigMap, p.app.Name, "a-t") },
			want: history.Extra, wantReloads: 1,
		},
		"a reload after the owner's rollout": {
			does: func(p impostor) {
				p.configMap("B")
				p.owner()
				crossed(p)
				p.reload(reloader.ConfigMap, p.app.Name, "b-u")
			},
			want: history.Extra, wantReloads: 1,
		},
		"two changes at once that are rolled out apart": {
			does: func(p impostor) {
				p.configMap("B")
				p.secret("B")
				p.reload(reloader.ConfigMap, p.app.Name, "b-t")
				p.reload(reloader.Secret, p.app.Name, "b-t")
			},
			want: history.Split, wantReloads: 2,
		},
		"a reload for what it does not depend on": {
			does: func(p impostor) { p.reload(reloader.ConfigMap, "nobodys", "x-t") },
			want: history.Foreign, wantReloads: 1,
		},
		"a reload of one that has not opted in": {
			does: func(p impostor) {
				p.patchApp(p.app, `{"metadata":{"annotations":{"`+annotation.DefaultKeys().Auto+`":"false"}}}`)
				p.configMap("B")
				p.reload(reloader.ConfigMap, p.app.Name, "b-t")
			},
			want: history.Foreign, wantReloads: 1,
		},
	}
	w := newWorld(t, "history")
	w.set("nobodys", "X")
	apps := map[string]fixture.App{}
	for name, tc := range tests {
		app := w.app(fmt.Sprintf("case-%02d", len(apps)))
		app.Kind, app.ConfigMaps, app.Secrets = tc.kind, []string{app.Name}, []string{app.Name}
		apps[name] = app
		p := impostor{w, app}
		p.configMap("A")
		p.secret("A")
		w.create(app)
		tc.does(p)
	}
	gone := w.app("gone", "nobodys")
	w.create(gone)
	w.set("nobodys", "Y")
	require.NoError(t, w.client.AppsV1().Deployments(w.apps).Delete(t.Context(), gone.Name, metav1.DeleteOptions{}))
	w.quiet(time.Second)

	found := w.judged()
	verdicts := map[reloader.Workload]history.Verdict{}
	for _, f := range found.all {
		assert.False(t, f.Doubtful, "%s", f)
		assert.Empty(t, verdicts[f.Workload], "%s", f)
		verdicts[f.Workload] = f.Verdict
	}
	reloads := 0
	for name, tc := range tests {
		workload := apps[name].Workload()
		w.history.Look(func(s *history.Story) {
			assert.Equal(t, tc.want, verdicts[workload], "%s:\n%s", name, s.Tell(workload))
			assert.Len(t, s.Reloads(workload, 0), tc.wantReloads, "%s:\n%s", name, s.Tell(workload))
		})
		delete(verdicts, workload)
		reloads += tc.wantReloads
	}
	assert.Empty(t, verdicts, "nobody else, and not who is gone")
	assert.Equal(t, reloads, found.reloads)
	assert.Len(t, found.wrong, 10, "a split is none")
	assert.NotEmpty(t, found.story)
}
