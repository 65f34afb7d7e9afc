package standalone

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/fixture"
)

// What hand-written manifests of Reloader 1 start: no flags, no names.
func TestABareEngineLosesNoChange(t *testing.T) {
	ns := namespace(t, "bare")
	app := newApp(t, ns, "app")
	rights := append(writing(), may("", "secrets", "create", "update"), may("", "configmaps", "create", "update"))
	p := startProgram(t, ns, rights, nil)
	edit(t, ns, app.Name, "1")
	mark := func() string {
		s, err := fixture.Read(t.Context(), shared.Client(), app.Workload())
		require.NoError(t, err)
		return s.Env("STAKATER_APP_CONFIGMAP")
	}
	require.Eventually(t, func() bool { return mark() != "" }, soon, often)
	p.stop()
	before := mark()

	edit(t, ns, app.Name, "2")
	p = runProgram(t, ns, nil)
	require.Eventually(t, func() bool { return mark() != before }, soon, often, "it is rolled out by the next one")
	assert.NotContains(t, p.log(), "will be missed")
	assert.NotContains(t, p.log(), "are not noticed")
}

func TestABareEngineNamesTheRightsThatItLacks(t *testing.T) {
	ns := namespace(t, "bare-poor")
	app := newApp(t, ns, "app")
	env := map[string]string{"RELOADER_DEPLOYMENT_NAME": "my-reloader"}
	p := startProgram(t, ns, writing(), env)
	edit(t, ns, app.Name, "1")
	require.Eventually(t, func() bool {
		s, err := fixture.Read(t.Context(), shared.Client(), app.Workload())
		require.NoError(t, err)
		return s.Env("STAKATER_APP_CONFIGMAP") != ""
	}, soon, often, "it reloads all the same")
	for _, lack := range []string{
		`cannot create resource "secrets"`, "secret=\"Secret bare-poor/my-reloader-fingerprint-key\"",
		`bare-poor/my-reloader-checkpoint-0 to -7: the ConfigMap does not exist and cannot be created (configmaps is forbidden`,
	} {
		assert.Equal(t, 1, strings.Count(strings.ReplaceAll(p.log(), `\"`, `"`), lack), lack)
	}
	_, err := shared.Client().CoreV1().Secrets(ns).Get(t.Context(), "my-reloader-fingerprint-key", metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err))
}
