package engine

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

// A CronJob's change that an engine of version 1 has not concluded is not
// started a second time. A Job of that name that anybody could have made since
// is no evidence.
func TestARunThatVersion1HasStarted(t *testing.T) {
	nightly := reloader.Workload{Kind: reloader.CronJob, Namespace: "shop", Name: "nightly"}
	upgraded := time.Date(2026, 5, 1, 3, 0, 0, 0, time.UTC)
	changed := upgraded.Add(-10 * time.Second)
	tests := map[string]struct {
		// after is how long after the upgrade the content came to be.
		written time.Time
		fresh   bool // no engine of version 1 has led before
		none    bool // no Job of that name
		created time.Time
		owner   types.UID
		// wantStarted is true if a Job is created now.
		wantStarted, wantAsked bool
	}{
		"right after the change":                     {written: changed, created: changed.Add(time.Second), owner: "first", wantAsked: true},
		"in the same second":                         {written: changed.Add(400 * time.Millisecond), created: changed, owner: "first", wantAsked: true},
		"not at all":                                 {written: changed, none: true, wantStarted: true, wantAsked: true},
		"by somebody else, for another one":          {written: changed, created: changed.Add(time.Second), owner: "second", wantStarted: true, wantAsked: true},
		"by somebody else, before the change":        {written: changed, created: changed.Add(-time.Minute), owner: "first", wantStarted: true, wantAsked: true},
		"by somebody else, after the upgrade":        {written: changed, created: upgraded.Add(time.Minute), owner: "first", wantStarted: true, wantAsked: true},
		"for a change after the upgrade":             {written: upgraded.Add(time.Minute), created: upgraded.Add(time.Minute), owner: "first", wantStarted: true},
		"when the engine before was of this version": {written: changed, fresh: true, created: changed.Add(time.Second), owner: "first", wantStarted: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			a := newApp(nightly)
			o := &batchv1.CronJob{
				TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "CronJob"}, ObjectMeta: *a.meta(),
				Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: a.template()}}},
			}
			o.UID = "first"
			c := kind.Change{
				UID: o.UID, Keys: keys, Strategy: kind.EnvVars,
				Marks: []kind.Mark{{Source: settings, Value: "v2-a", Content: "v1-a", Container: "main", Env: "STAKATER_SETTINGS_CONFIGMAP", Written: tc.written}},
			}
			k, _ := kind.BuiltIn().ByName(reloader.CronJob)
			before := "/apis/batch/v1/namespaces/shop/jobs/" + kind.NameInVersion1(k.Manifest(o), c)
			var created []string
			asked := false
			server := play(t, func(r request) (int, http.Header, any) {
				switch {
				case r.path == before:
					asked = true
					if tc.none {
						return failure(apierrors.NewNotFound(batchv1.Resource("jobs"), "nightly"))
					}
					return http.StatusOK, nil, &batchv1.Job{
						TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
						ObjectMeta: metav1.ObjectMeta{
							Namespace: "shop", Name: before[len("/apis/batch/v1/namespaces/shop/jobs/"):], CreationTimestamp: metav1.NewTime(tc.created),
							OwnerReferences: []metav1.OwnerReference{{Kind: "CronJob", Name: "nightly", UID: tc.owner, Controller: new(true)}},
						},
					}
				case r.method == http.MethodPost:
					created = append(created, r.path)
					return http.StatusCreated, nil, &batchv1.Job{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}}
				case r.method == http.MethodPatch:
					assert.Contains(t, r.body, "v2-a", "what has been started is remembered")
				}
				return http.StatusOK, nil, o
			})
			e := newTestEngine(t, server.config, new(told))
			e.clock = clocktesting.NewFakeClock(upgraded)
			if !tc.fresh {
				e.upgraded = upgraded
			}
			came, err := e.attempt(t.Context(), k, nightly, c)
			require.NoError(t, err)
			assert.True(t, came.done)
			assert.Equal(t, tc.wantStarted, len(created) > 0)
			assert.Equal(t, tc.wantAsked, asked)
		})
	}
}
