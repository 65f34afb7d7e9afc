package kind

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

func TestPausePatch(t *testing.T) {
	tests := map[string]struct {
		pause  Pause
		record string
		want   string
	}{
		"paused, whoever has written since": {
			pause: Pause{Paused: new(true)},
			want:  `{"metadata":{"uid":"first"},"spec":{"paused":true}}`,
		},
		"paused, if nobody has written since": {
			pause: Pause{Paused: new(true), ResourceVersion: "7"},
			want:  `{"metadata":{"uid":"first","resourceVersion":"7"},"spec":{"paused":true}}`,
		},
		"resumed": {
			pause: Pause{Paused: new(false), At: new("")},
			want:  `{"metadata":{"uid":"first","annotations":{"deployment.reloader.stakater.com/paused-at":null}},"spec":{"paused":null}}`,
		},
		"with its record": {
			pause:  Pause{At: new("2026-01-02T03:04:05Z")},
			record: "{}",
			want:   `{"metadata":{"uid":"first","annotations":{"deployment.reloader.stakater.com/paused-at":"2026-01-02T03:04:05Z","reloader.stakater.com/index":"{}"}}}`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			patch, err := tc.pause.Patch(Change{UID: "first", Record: tc.record, Keys: annotation.DefaultKeys()})
			require.NoError(t, err)
			assert.Equal(t, types.StrategicMergePatchType, patch.Type)
			assert.JSONEq(t, tc.want, string(patch.Body))
		})
	}
}

func TestAPauseGoesWithTheMarks(t *testing.T) {
	change := Change{
		UID: "first", Strategy: EnvVars, Record: "{}", Keys: annotation.DefaultKeys(),
		Marks: []Mark{mark(reloader.ConfigMap, "settings", "v1-a", "main")},
		Pause: &Pause{Paused: new(false), At: new("2026-01-02T03:04:05Z")},
	}
	patch, err := deployment().Patch(change, nil)
	require.NoError(t, err)
	assert.JSONEq(t, `{"metadata":{"uid":"first","annotations":{
			"deployment.reloader.stakater.com/paused-at":"2026-01-02T03:04:05Z","reloader.stakater.com/index":"{}"}},
		"spec":{"paused":null,"template":{"metadata":{"annotations":{"reloader.stakater.com/last-reloaded-from":null}},"spec":{"containers":[
			{"name":"main","env":[{"name":"STAKATER_SETTINGS_CONFIGMAP","value":"v1-a"}]}]}}}}`, string(patch.Body))

	object := example(t, deployment()).(*appsv1.Deployment)
	object.Spec.Paused = true
	patched := apply(t, object, patch.Body, new(appsv1.Deployment)).(*appsv1.Deployment)
	assert.False(t, patched.Spec.Paused)
	assert.Equal(t, "2026-01-02T03:04:05Z", patched.Annotations[annotation.DefaultKeys().PausedAt])
	assert.Len(t, patched.Spec.Template.Spec.Containers, 2)
}

func TestAPauseForNoPatch(t *testing.T) {
	_, err := Pause{}.add([]byte("hope"), Change{})
	require.Error(t, err)
}
