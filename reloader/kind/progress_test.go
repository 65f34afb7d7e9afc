package kind

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader"
)

// What the controllers write into a status is in
// k8s.io/kubernetes/pkg/controller/{deployment,statefulset,daemon}; the tests of
// e2e/standalone hold some of it against the real ones.
func TestProgress(t *testing.T) {
	type row struct {
		raw  string
		want Progress
	}
	tests := map[reloader.WorkloadKind]map[string]row{
		reloader.Deployment: {
			"done":                            {`{"metadata":{"generation":2},"status":{"observedGeneration":2,"replicas":1,"updatedReplicas":1,"availableReplicas":1}}`, Healthy},
			"not seen yet":                    {`{"metadata":{"generation":2},"status":{"observedGeneration":1,"replicas":1,"updatedReplicas":1,"availableReplicas":1}}`, Rolling},
			"not seen yet, and had failed":    {`{"metadata":{"generation":2},"status":{"observedGeneration":1,"replicas":1,"updatedReplicas":1,"conditions":[{"type":"Progressing","status":"False","reason":"ProgressDeadlineExceeded"}]}}`, Rolling},
			"new pods are missing":            {`{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":2,"replicas":2,"updatedReplicas":1,"availableReplicas":2}}`, Rolling},
			"old pods are left of a surge":    {`{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":2,"replicas":3,"updatedReplicas":2,"availableReplicas":3}}`, Rolling},
			"a pod is not ready long enough":  {`{"metadata":{"generation":2},"spec":{"replicas":2,"minReadySeconds":60},"status":{"observedGeneration":2,"replicas":2,"updatedReplicas":2,"readyReplicas":2,"availableReplicas":1}}`, Rolling},
			"its deadline has passed":         {`{"metadata":{"generation":2},"status":{"observedGeneration":2,"replicas":2,"updatedReplicas":1,"availableReplicas":1,"conditions":[{"type":"Available","status":"True"},{"type":"Progressing","status":"False","reason":"ProgressDeadlineExceeded"}]}}`, Stalled},
			"it makes progress":               {`{"metadata":{"generation":2},"status":{"observedGeneration":2,"replicas":2,"updatedReplicas":1,"availableReplicas":1,"conditions":[{"type":"Progressing","status":"True"}]}}`, Rolling},
			"paused":                          {`{"metadata":{"generation":2},"spec":{"paused":true},"status":{"observedGeneration":1}}`, Idle},
			"paused in the middle":            {`{"metadata":{"generation":2},"spec":{"paused":true,"replicas":2},"status":{"observedGeneration":2,"replicas":3,"updatedReplicas":1}}`, Idle},
			"scaled to zero":                  {`{"metadata":{"generation":2},"spec":{"replicas":0},"status":{"observedGeneration":1}}`, Idle},
			"scaled to zero, pods are left":   {`{"metadata":{"generation":2},"spec":{"replicas":0},"status":{"observedGeneration":2,"replicas":2,"availableReplicas":2}}`, Idle},
			"being deleted":                   {`{"metadata":{"generation":3,"deletionTimestamp":"2026-01-01T00:00:00Z"},"status":{"observedGeneration":2}}`, Idle},
			"Recreate: the old pods are gone": {`{"metadata":{"generation":2},"spec":{"strategy":{"type":"Recreate"}},"status":{"observedGeneration":2}}`, Rolling},
		},
		reloader.StatefulSet: {
			"done":                                  {`{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":2,"replicas":2,"updatedReplicas":2,"availableReplicas":2,"currentRevision":"b","updateRevision":"b"}}`, Healthy},
			"not seen yet":                          {`{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":1,"replicas":2,"updatedReplicas":2,"availableReplicas":2}}`, Rolling},
			"a pod is old":                          {`{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":2,"replicas":2,"updatedReplicas":1,"availableReplicas":2,"currentRevision":"a","updateRevision":"b"}}`, Rolling},
			"a pod is not available":                {`{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":2,"replicas":2,"updatedReplicas":2,"readyReplicas":2,"availableReplicas":1}}`, Rolling},
			"its partition is done":                 {`{"metadata":{"generation":2},"spec":{"replicas":3,"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":2}}},"status":{"observedGeneration":2,"replicas":3,"updatedReplicas":1,"availableReplicas":3,"currentRevision":"a","updateRevision":"b"}}`, Healthy},
			"its partition is half done":            {`{"metadata":{"generation":2},"spec":{"replicas":3,"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":1}}},"status":{"observedGeneration":2,"replicas":3,"updatedReplicas":1,"availableReplicas":3,"currentRevision":"a","updateRevision":"b"}}`, Rolling},
			"the pod of its partition is not ready": {`{"metadata":{"generation":2},"spec":{"replicas":3,"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":2}}},"status":{"observedGeneration":2,"replicas":3,"updatedReplicas":1,"availableReplicas":2}}`, Rolling},
			"its partition is above all pods":       {`{"metadata":{"generation":2},"spec":{"replicas":3,"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":3}}},"status":{"observedGeneration":1,"replicas":3,"availableReplicas":3}}`, Idle},
			"its partition is counted from zero, whatever its first ordinal": {`{"metadata":{"generation":2},"spec":{"replicas":3,"ordinals":{"start":5},"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":2}}},"status":{"observedGeneration":2,"replicas":3,"updatedReplicas":1,"availableReplicas":3}}`, Healthy},
			"OnDelete":              {`{"metadata":{"generation":2},"spec":{"replicas":3,"updateStrategy":{"type":"OnDelete"}},"status":{"observedGeneration":1}}`, Idle},
			"scaled to zero":        {`{"metadata":{"generation":2},"spec":{"replicas":0},"status":{"observedGeneration":2}}`, Idle},
			"one replica, unsaid":   {`{"metadata":{"generation":2},"status":{"observedGeneration":2}}`, Rolling},
			"being deleted":         {`{"metadata":{"generation":2,"deletionTimestamp":"2026-01-01T00:00:00Z"},"status":{"observedGeneration":1}}`, Idle},
			"scaled down meanwhile": {`{"metadata":{"generation":2},"spec":{"replicas":1},"status":{"observedGeneration":2,"replicas":2,"updatedReplicas":1,"availableReplicas":2}}`, Healthy},
		},
		reloader.DaemonSet: {
			"done":                             {`{"metadata":{"generation":2},"status":{"observedGeneration":2,"desiredNumberScheduled":2,"updatedNumberScheduled":2,"numberAvailable":2}}`, Healthy},
			"not seen yet":                     {`{"metadata":{"generation":2},"status":{"observedGeneration":1,"desiredNumberScheduled":2,"updatedNumberScheduled":2,"numberAvailable":2}}`, Rolling},
			"a pod is old":                     {`{"metadata":{"generation":2},"status":{"observedGeneration":2,"desiredNumberScheduled":2,"updatedNumberScheduled":1,"numberAvailable":2}}`, Rolling},
			"a pod is not available":           {`{"metadata":{"generation":2},"status":{"observedGeneration":2,"desiredNumberScheduled":2,"updatedNumberScheduled":2,"numberAvailable":1}}`, Rolling},
			"OnDelete":                         {`{"metadata":{"generation":2},"spec":{"updateStrategy":{"type":"OnDelete"}},"status":{"observedGeneration":1,"desiredNumberScheduled":2}}`, Idle},
			"no node wants it":                 {`{"metadata":{"generation":2},"status":{"observedGeneration":2}}`, Idle},
			"not seen yet, and no node yet":    {`{"metadata":{"generation":2},"status":{"observedGeneration":1}}`, Rolling},
			"being deleted":                    {`{"metadata":{"generation":2,"deletionTimestamp":"2026-01-01T00:00:00Z"},"status":{"observedGeneration":1}}`, Idle},
			"a pod runs where it should not":   {`{"metadata":{"generation":2},"status":{"observedGeneration":2,"desiredNumberScheduled":1,"updatedNumberScheduled":1,"numberAvailable":1,"numberMisscheduled":1}}`, Healthy},
			"the surge is there, old pods too": {`{"metadata":{"generation":2},"spec":{"updateStrategy":{"rollingUpdate":{"maxSurge":1}}},"status":{"observedGeneration":2,"desiredNumberScheduled":2,"updatedNumberScheduled":0,"numberAvailable":2}}`, Rolling},
		},
		reloader.CronJob: {"any": {`{"metadata":{"generation":2}}`, Idle}},
		reloader.Job:     {"any": {`{"metadata":{"generation":2},"status":{"active":1}}`, Idle}},
		reloader.Rollout: {
			"done":                    {`{"metadata":{"generation":2},"status":{"observedGeneration":"2","phase":"Healthy"}}`, Healthy},
			"not seen yet":            {`{"metadata":{"generation":2},"status":{"observedGeneration":"1","phase":"Healthy"}}`, Rolling},
			"not seen, and degraded":  {`{"metadata":{"generation":2},"status":{"observedGeneration":"1","phase":"Degraded"}}`, Rolling},
			"it progresses":           {`{"metadata":{"generation":2},"status":{"observedGeneration":"2","phase":"Progressing"}}`, Rolling},
			"a phase of a later Argo": {`{"metadata":{"generation":2},"status":{"observedGeneration":"2","phase":"Pondering"}}`, Rolling},
			"at a step that waits":    {`{"metadata":{"generation":2},"status":{"observedGeneration":"2","phase":"Paused"}}`, Stalled},
			"failed or aborted":       {`{"metadata":{"generation":2},"status":{"observedGeneration":"2","phase":"Degraded","abort":true}}`, Stalled},
			"paused by a user":        {`{"metadata":{"generation":2},"spec":{"paused":true},"status":{"observedGeneration":"1"}}`, Idle},
			"scaled to zero":          {`{"metadata":{"generation":2},"spec":{"replicas":0},"status":{"observedGeneration":"1","phase":"Progressing"}}`, Idle},
			"it is to restart":        {`{"metadata":{"generation":2},"spec":{"restartAt":"2026-01-01T00:00:01Z"},"status":{"observedGeneration":"2","phase":"Healthy","restartedAt":"2026-01-01T00:00:00Z"}}`, Rolling},
			"it has never restarted":  {`{"metadata":{"generation":2},"spec":{"restartAt":"2026-01-01T00:00:01Z"},"status":{"observedGeneration":"2","phase":"Healthy"}}`, Rolling},
			"it has restarted":        {`{"metadata":{"generation":2},"spec":{"restartAt":"2026-01-01T00:00:01Z"},"status":{"observedGeneration":"2","phase":"Healthy","restartedAt":"2026-01-01T00:00:01Z"}}`, Healthy},
			"being deleted":           {`{"metadata":{"generation":2,"deletionTimestamp":"2026-01-01T00:00:00Z"},"status":{"observedGeneration":"1"}}`, Idle},
		},
		reloader.DeploymentConfig: {
			"done":                       {`{"metadata":{"generation":2},"spec":{"replicas":1},"status":{"observedGeneration":2,"replicas":1,"updatedReplicas":1,"availableReplicas":1}}`, Healthy},
			"old pods are left":          {`{"metadata":{"generation":2},"spec":{"replicas":1},"status":{"observedGeneration":2,"replicas":2,"updatedReplicas":1,"availableReplicas":1}}`, Rolling},
			"not seen yet":               {`{"metadata":{"generation":2},"spec":{"replicas":1},"status":{"observedGeneration":1}}`, Rolling},
			"a pod is not available":     {`{"metadata":{"generation":2},"spec":{"replicas":1},"status":{"observedGeneration":2,"replicas":1,"updatedReplicas":1}}`, Rolling},
			"a pod is missing":           {`{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":2,"replicas":1,"updatedReplicas":1,"availableReplicas":1}}`, Rolling},
			"paused":                     {`{"metadata":{"generation":2},"spec":{"replicas":1,"paused":true}}`, Idle},
			"scaled to zero":             {`{"metadata":{"generation":2},"spec":{"replicas":0},"status":{"observedGeneration":1}}`, Idle},
			"its deployment has failed":  {`{"metadata":{"generation":2},"spec":{"replicas":1},"status":{"observedGeneration":2,"replicas":1,"conditions":[{"type":"Progressing","status":"False"}]}}`, Stalled},
			"nothing triggers a rollout": {`{"metadata":{"generation":2},"spec":{"replicas":1,"triggers":[]},"status":{"observedGeneration":2,"replicas":1}}`, Idle},
			"only an image triggers one": {`{"metadata":{"generation":2},"spec":{"replicas":1,"triggers":[{"type":"ImageChange"}]},"status":{"observedGeneration":2,"replicas":1}}`, Idle},
			"a change triggers one":      {`{"metadata":{"generation":2},"spec":{"replicas":1,"triggers":[{"type":"ImageChange"},{"type":"ConfigChange"}]},"status":{"observedGeneration":2,"replicas":1}}`, Rolling},
		},
	}
	for _, k := range BuiltIn().All() {
		rows, ok := tests[k.Name]
		assert.True(t, ok, "no rows for %s", k.Name)
		for name, tc := range rows {
			t.Run(string(k.Name)+": "+name, func(t *testing.T) {
				assert.Equal(t, tc.want, manifestOf(t, k, tc.raw).Progress)
			})
		}
	}
}
