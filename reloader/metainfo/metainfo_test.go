package metainfo

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Tools read the texts as they are: their keys are part of the contract.
func TestData(t *testing.T) {
	tests := map[string]struct {
		info Info
		want map[string]string
	}{
		"of a release": {
			info: Info{
				Build:      Build{Version: "2.0.0", ReleaseVersion: "2.0.0", GoVersion: "go1.26", CommitHash: "abc", CommitTime: "2026-01-01T00:00:00Z"},
				Options:    map[string]string{"reload-strategy": "env-vars", "auto-reload-all": "false"},
				Deployment: Deployment{Name: "reloader", Namespace: "system"},
			},
			want: map[string]string{
				"buildInfo":       `{"version":"2.0.0","releaseVersion":"2.0.0","goVersion":"go1.26","commitHash":"abc","commitTime":"2026-01-01T00:00:00Z"}`,
				"reloaderOptions": `{"auto-reload-all":"false","reload-strategy":"env-vars"}`,
				"deploymentInfo":  `{"name":"reloader","namespace":"system"}`,
			},
		},
		"of a build outside of a repository, run by hand": {
			info: Info{Build: Build{Version: "dev", ReleaseVersion: "dev", GoVersion: "go1.26"}, Options: map[string]string{}},
			want: map[string]string{
				"buildInfo":       `{"version":"dev","releaseVersion":"dev","goVersion":"go1.26"}`,
				"reloaderOptions": `{}`,
				"deploymentInfo":  `{"name":"","namespace":""}`,
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tc.info.data()
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
			again, err := tc.info.data()
			require.NoError(t, err)
			assert.Equal(t, got, again, "the same text, so that the ConfigMap is left alone")
		})
	}
}
