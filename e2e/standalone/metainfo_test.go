package standalone

import (
	"encoding/json"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhatRunsIsPublished(t *testing.T) {
	byName := may("", "configmaps", "get", "update")
	byName.ResourceNames = []string{"reloader-meta-info"}
	tests := map[string]struct {
		ns     string
		rights rbacv1.PolicyRule
		exists bool
		want   bool
	}{
		"in the ConfigMap that the chart makes":    {ns: "meta-info", rights: byName, exists: true, want: true},
		"in a new one, if that is allowed":         {ns: "meta-info-new", rights: may("", "configmaps", "create"), want: true},
		"nowhere, if that is not":                  {ns: "meta-info-missing", rights: byName},
		"nowhere, if the one there is out of hand": {ns: "meta-info-forbidden", rights: may("", "configmaps", "get"), exists: true},
	}
	for name, tc := range tests {
		ns := namespace(t, tc.ns)
		t.Run(name, func(t *testing.T) {
			configMaps := shared.Client().CoreV1().ConfigMaps(ns)
			if tc.exists {
				_, err := configMaps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "reloader-meta-info"}}, metav1.CreateOptions{})
				require.NoError(t, err)
			}
			env := map[string]string{"RELOADER_NAMESPACE": ns, "RELOADER_DEPLOYMENT_NAME": "my-reloader"}
			p := startProgram(t, ns, append(reading(), tc.rights), env, "--webhook-url=https://user:hunter2@hooks.invalid/hunter2", "--log-level=debug")
			if !tc.want {
				require.Eventually(t, func() bool { return strings.Contains(p.log(), "cannot publish the meta information") }, soon, often)
				assert.Equal(t, 1, strings.Count(p.log(), "meta information"))
				return
			}
			var o *corev1.ConfigMap
			require.Eventually(t, func() bool {
				var err error
				o, err = configMaps.Get(t.Context(), "reloader-meta-info", metav1.GetOptions{})
				return err == nil && len(o.Data) > 0
			}, soon, often)
			assert.Equal(t, "reloader", o.Labels["reloader.stakater.com/meta-info"])
			var build, deployed, flags map[string]string
			require.NoError(t, json.Unmarshal([]byte(o.Data["buildInfo"]), &build))
			require.NoError(t, json.Unmarshal([]byte(o.Data["deploymentInfo"]), &deployed))
			require.NoError(t, json.Unmarshal([]byte(o.Data["reloaderOptions"]), &flags))
			assert.Equal(t, "dev", build["version"])
			assert.Equal(t, runtime.Version(), build["goVersion"])
			assert.Equal(t, map[string]string{"name": "my-reloader", "namespace": ns}, deployed)
			assert.Equal(t, "debug", flags["log-level"])
			assert.Equal(t, "env-vars", flags["reload-strategy"])
			assert.Equal(t, "https://hooks.invalid", flags["webhook-url"])
			assert.Len(t, o.Data, 3)
			for _, text := range o.Data {
				assert.NotContains(t, text, "hunter2")
			}
			assert.NotContains(t, p.log(), "hunter2")
		})
	}
}

func TestProfilesAreServedOnlyWhenAskedFor(t *testing.T) {
	ns := namespace(t, "profiles")
	address := freeAddress(t)
	p := startProgram(t, ns, reading(), nil, "--enable-pprof", "--pprof-addr="+address)
	text, code := get(t, "http://"+address+"/debug/pprof/goroutine?debug=1")
	assert.Equal(t, http.StatusOK, code)
	assert.Contains(t, text, "goroutine profile")
	_, code = p.get("/debug/pprof/")
	assert.Equal(t, http.StatusNotFound, code)

	unasked := freeAddress(t)
	startProgram(t, namespace(t, "profiles-unasked"), reading(), nil, "--pprof-addr="+unasked)
	_, code = get(t, "http://"+unasked+"/debug/pprof/")
	assert.Zero(t, code, "nobody listens")
}
