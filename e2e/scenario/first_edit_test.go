package scenario

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
)

// TestTheFirstEditIsNeverMissed edits a source right after admission has
// brought it in, while the engine learns of it from the index record.
func TestTheFirstEditIsNeverMissed(t *testing.T) {
	const rounds, longest = 100, 50 * time.Millisecond
	given(t, nil)
	ns := newNamespace(t, "first-edit")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	tests := map[string]struct {
		admit func(t *testing.T, app fixture.App)
		// wantGeneration is that of one reload after the admission.
		wantGeneration int64
	}{
		"of a workload that is created": {
			admit:          func(t *testing.T, app fixture.App) { t.Helper(); create(t, app) },
			wantGeneration: 2,
		},
		"of a reference that is added": {
			admit: func(t *testing.T, app fixture.App) {
				t.Helper()
				added := app.ConfigMaps[0]
				app.ConfigMaps = nil
				create(t, app)
				patch(t, app.Workload(), types.StrategicMergePatchType,
					`{"spec":{"template":{"spec":{"containers":[{"name":"app","envFrom":[{"configMapRef":{"name":"`+added+`"}}]}]}}}}`)
			},
			wantGeneration: 3,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var apps []fixture.App
			for range rounds {
				app := fixture.App{Namespace: ns, Name: unique(), Annotations: auto()}
				app.ConfigMaps = []string{app.Name}
				setConfigMap(t, ns, app.Name, "1")
				tc.admit(t, app)
				<-time.After(time.Duration(random.Int64N(int64(longest))))
				setConfigMap(t, ns, app.Name, "2")
				apps = append(apps, app)
			}
			for _, app := range apps {
				require.Eventually(t, func() bool { return mark(t, app.Workload(), reloader.ConfigMap, app.Name) != "" },
					soon, often, "%s is reloaded", app.Name)
			}
			for _, app := range apps {
				s := read(t, app.Workload())
				assert.Equal(t, tc.wantGeneration, s.Meta.Generation, "%s is reloaded once", app.Name)
				assert.True(t, fits(t, s), app.Name)
			}
		})
	}
}
