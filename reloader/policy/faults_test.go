package policy_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/policy"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kind               reloader.WorkloadKind // Deployment
		workload, template notes
		want               []reloader.Reason
	}{
		"nothing of ours":         {},
		"opted in":                {workload: notes{"auto": "true"}},
		"a list that can be used": {workload: notes{"configmap/reload": "app,x-.*"}},
		"what is only odd":        {workload: notes{"configmap/reload": "a,", "auto": "yes"}},
		"an entry that never matches": {
			workload: notes{"configmap/reload": "*"}, want: []reloader.Reason{reloader.ReasonEntryNeverMatches},
		},
		"an entry that is hardly meant so": {
			workload: notes{"configmap/reload": "true"}, want: []reloader.Reason{reloader.ReasonEntryDoubtful},
		},
		"an exclude list with an expression": {
			workload: notes{"auto": "true", "configmaps.exclude/reload": "app-.*"}, want: []reloader.Reason{reloader.ReasonExcludeNotExact},
		},
		"an entry that does not compile": {workload: notes{"configmap/reload": "app,x["}, want: []reloader.Reason{reloader.ReasonEntryInvalid}},
		"one on the template that does not": {
			template: notes{"secret/reload": "x["}, want: []reloader.Reason{reloader.ReasonEntryInvalid},
		},
		"one on the template that does not count": {
			workload: notes{"secret/reload": "a"}, template: notes{"secret/reload": "x["},
		},
		"a name in both lists": {
			workload: notes{"secret/reload": "a", "secrets.exclude/reload": "a"},
			want:     []reloader.Reason{reloader.ReasonNamedAndExcluded},
		},
		"a pause-period that is none": {
			workload: notes{"auto": "true", "deployment/pause-period": "soon"},
			want:     []reloader.Reason{reloader.ReasonPausePeriodInvalid},
		},
		"a coalescing window that is none": {
			workload: notes{"auto": "true", "coalesce-window": "soon"},
			want:     []reloader.Reason{reloader.ReasonWindowInvalid},
		},
		"a rollout-strategy that is none": {
			kind: reloader.Rollout, workload: notes{"auto": "true", "rollout-strategy": "soon"},
			want: []reloader.Reason{reloader.ReasonStrategyUnknown},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.kind == "" {
				tc.kind = reloader.Deployment
			}
			var got []reloader.Reason
			for _, p := range policy.Faults(tc.kind, tc.workload.expand(), tc.template.expand(), policy.Settings{Keys: annotation.DefaultKeys()}) {
				got = append(got, p.Reason)
			}
			assert.Equal(t, tc.want, got)
		})
	}
}
