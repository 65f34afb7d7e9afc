package reloader_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader"
)

func TestEnvName(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kind reloader.SourceKind
		name string
		want string
	}{
		"a dash":                       {reloader.ConfigMap, "my-cm", "STAKATER_MY_CM_CONFIGMAP"},
		"a dot collides with it":       {reloader.ConfigMap, "my.cm", "STAKATER_MY_CM_CONFIGMAP"},
		"a run of others is one":       {reloader.Secret, "a.-.b", "STAKATER_A_B_SECRET"},
		"leading ones are dropped":     {reloader.Secret, "--a", "STAKATER_A_SECRET"},
		"digits stay":                  {reloader.SecretProviderClass, "v1.2", "STAKATER_V1_2_SECRETPROVIDERCLASS"},
		"bytes beyond ASCII":           {reloader.ConfigMap, "aäb", "STAKATER_A_B_CONFIGMAP"},
		"nothing":                      {reloader.ConfigMap, "", "STAKATER__CONFIGMAP"},
		"a trailing one stays (today)": {reloader.ConfigMap, "a-", "STAKATER_A__CONFIGMAP"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := reloader.EnvName(tc.kind, tc.name)
			assert.Equal(t, tc.want, got)
			assert.True(t, reloader.IsEnvName(got))
		})
	}
}

func TestOtherVariablesMarkNothing(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "STAKATER_", "STAKATER_A_POD", "A_SECRET", "stakater_a_secret", "STAKATER_A_SECRET_", "STAKATERX_SECRET"} {
		assert.False(t, reloader.IsEnvName(name), name)
	}
}
