package review_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/review"
)

func TestObject(t *testing.T) {
	t.Parallel()
	const (
		misplaced = `{"metadata":{"annotations":{"reloader.stakater.com/match":"True"}}}`
		broken    = `{"metadata":{"annotations":"planted"}}`
	)
	tests := map[string]struct {
		group, kind, raw string
		want             []reloader.Reason
		wantErr          string
	}{
		"a workload":                       {"apps", "Deployment", misplaced, []reloader.Reason{reloader.ReasonKeyMisplaced}, ""},
		"a workload that is none":          {"apps", "DaemonSet", broken, nil, `decode DaemonSet: field "metadata.annotations" does not hold a map[string]string`},
		"a source":                         {"", "Secret", misplaced, []reloader.Reason{reloader.ReasonValueNotBoolean}, ""},
		"a source that is none":            {"", "ConfigMap", broken, nil, "decode ConfigMap: metadata.annotations: the field holds another kind of value"},
		"a SecretProviderClass":            {"secrets-store.csi.x-k8s.io", "SecretProviderClass", `{}`, nil, ""},
		"a source's name in another group": {"example.com", "Secret", misplaced, nil, "kind is not judged"},
		"a workload's in another group":    {"example.com", "Deployment", misplaced, nil, "kind is not judged"},
		"something else":                   {"", "Pod", misplaced, nil, "kind is not judged"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			problems, err := review.Object(kind.BuiltIn(), tc.group, tc.kind, []byte(tc.raw), policy.Settings{Keys: annotation.DefaultKeys()})
			if tc.wantErr != "" {
				require.EqualError(t, err, tc.wantErr)
				return
			}
			require.NoError(t, err)
			var got []reloader.Reason
			for _, p := range problems {
				got = append(got, p.Reason)
			}
			assert.Equal(t, tc.want, got)
		})
	}
}
