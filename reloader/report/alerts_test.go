package report

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/alert"
)

// told keeps alerts.
type told []alert.Alert

func (a *told) Send(one alert.Alert) { *a = append(*a, one) }

func TestAlerts(t *testing.T) {
	const detected = "Reloader detected changes in *settings* of type *CONFIGMAP* in namespace *shop*. "
	const web = "*web* of type *Deployment* in namespace *shop*"
	settings := reload(source(reloader.ConfigMap, "settings"))
	posted := settings
	posted.Posted = true
	failure := errors.New("no answer")
	tests := map[string]struct {
		tell func(r *Reporter)
		want told
	}{
		"a reload": {
			tell: func(r *Reporter) { r.Reloaded(settings) },
			want: told{{Text: detected + "Hence reloaded " + web}},
		},
		"a reload because of two": {
			tell: func(r *Reporter) {
				r.Reloaded(reload(source(reloader.Secret, "password"), source(reloader.SecretProviderClass, "vault")))
			},
			want: told{
				{Text: "Reloader detected changes in *password* of type *SECRET* in namespace *shop*. Hence reloaded " + web},
				{Text: "Reloader detected changes in *vault* of type *SECRETPROVIDERCLASS* in namespace *shop*. Hence reloaded " + web},
			},
		},
		"a webhook that was called instead": {
			tell: func(r *Reporter) { r.Reloaded(posted) },
			want: told{{Text: detected + "Hence called the webhook for " + web}},
		},
		"the first failure of several, each time": {
			tell: func(r *Reporter) {
				r.Failed(settings, reloader.OutcomeRetry, failure)
				r.Failed(settings, reloader.OutcomeRetry, failure)
				r.Reloaded(settings)
				r.Failed(settings, reloader.OutcomeStalled, failure)
			},
			want: told{
				{Text: detected + "Could not reload " + web + ", trying again: no answer", Failure: true},
				{Text: detected + "Hence reloaded " + web},
				{Text: detected + "Could not reload " + web + ", trying again: no answer", Failure: true},
			},
		},
		"a workload that is reloaded too often": {
			tell: func(r *Reporter) { r.Held(settings, time.Minute) },
			want: told{{Text: detected + "Held back " + web + " for 1m0s, because it has been reloaded too often", Failure: true}},
		},
		"a rival": {
			tell: func(r *Reporter) { r.TakenBack(settings, "gitops") },
			want: told{{
				Text:    detected + "Held back " + web + " for an hour, because the field manager *gitops* keeps taking its reloads back",
				Failure: true,
			}},
		},
		"nothing about doubts and corrections": {
			tell: func(r *Reporter) {
				r.Doubtful(settings.Workload, settings.Sources[0])
				r.Corrected(settings.Workload)
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m, _ := newMetrics(t)
			var got told
			tc.tell(New(m, nil, &got))
			assert.Equal(t, tc.want, got)
			tc.tell(New(m, nil, nil))
		})
	}
}

func TestFailuresThatAreRememberedAreBounded(t *testing.T) {
	m, _ := newMetrics(t)
	var got told
	r := New(m, nil, &got)
	for i := range 3 * maxFailing {
		failing := reload(source(reloader.ConfigMap, "settings"))
		failing.Workload.Name = fmt.Sprint(i)
		r.Failed(failing, reloader.OutcomeRetry, errors.New(strings.Repeat("long ", 1000)))
	}
	assert.Len(t, got, 3*maxFailing)
	assert.LessOrEqual(t, len(r.alerts.failing), maxFailing)
	assert.LessOrEqual(t, len(got[0].Text), maxMessage)
}
