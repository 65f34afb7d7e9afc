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

// message is an alert as people see it.
type message struct {
	Namespace, Text string
	Failure         bool
}

// told keeps alerts.
type told []message

func (a *told) Send(one alert.Alert) {
	*a = append(*a, message{one.Namespace, one.Text.String(), one.Failure})
}

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
			want: told{{Namespace: "shop", Text: detected + "Hence reloaded " + web}},
		},
		"a reload because of two": {
			tell: func(r *Reporter) {
				r.Reloaded(reload(source(reloader.Secret, "password"), source(reloader.SecretProviderClass, "vault")))
			},
			want: told{
				{Namespace: "shop", Text: "Reloader detected changes in *password* of type *SECRET* in namespace *shop*, *vault* of type *SECRETPROVIDERCLASS* in namespace *shop*. Hence reloaded " + web},
			},
		},
		"a reload because of many": {
			tell: func(r *Reporter) {
				many := reload()
				for i := range 2100 {
					many.Sources = append(many.Sources, source(reloader.ConfigMap, fmt.Sprint("c", i)))
				}
				r.Reloaded(many)
			},
			want: told{{Namespace: "shop", Text: "Reloader detected changes in *c0* of type *CONFIGMAP* in namespace *shop*, " +
				"*c1* of type *CONFIGMAP* in namespace *shop*, *c2* of type *CONFIGMAP* in namespace *shop*, " +
				"*c3* of type *CONFIGMAP* in namespace *shop*, *c4* of type *CONFIGMAP* in namespace *shop* and 2095 more. Hence reloaded " + web}},
		},
		"a webhook that was called instead": {
			tell: func(r *Reporter) { r.Reloaded(posted) },
			want: told{{Namespace: "shop", Text: detected + "Hence called the webhook for " + web}},
		},
		"the first failure of several, each time": {
			tell: func(r *Reporter) {
				r.Failed(settings, reloader.OutcomeRetry, failure)
				r.Failed(settings, reloader.OutcomeRetry, failure)
				r.Reloaded(settings)
				r.Failed(settings, reloader.OutcomeStalled, failure)
			},
			want: told{
				{Namespace: "shop", Text: detected + "Could not reload " + web + ", trying again: no answer", Failure: true},
				{Namespace: "shop", Text: detected + "Hence reloaded " + web},
				{Namespace: "shop", Text: detected + "Could not reload " + web + ", trying again: no answer", Failure: true},
			},
		},
		"a workload that is reloaded too often": {
			tell: func(r *Reporter) { r.Held(settings, time.Minute) },
			want: told{{Namespace: "shop", Text: detected + "Held back " + web + " for 1m0s, because it has been reloaded too often", Failure: true}},
		},
		"a rival": {
			tell: func(r *Reporter) { r.TakenBack(settings, "gitops") },
			want: told{{
				Namespace: "shop",
				Text:      detected + "Held back " + web + " for an hour, because the field manager *gitops* keeps taking its reloads back",
				Failure:   true,
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
	fail := func(namespace string, i int) {
		failing := reload(source(reloader.ConfigMap, "settings"))
		failing.Workload.Namespace, failing.Workload.Name = namespace, fmt.Sprint(i)
		r.Failed(failing, reloader.OutcomeRetry, errors.New(strings.Repeat("long ", 1000)))
	}
	fail("bank", 0)
	for i := range 3 * maxFailing {
		fail("evil", i)
	}
	fail("bank", 0)

	assert.Len(t, got, 1+3*maxFailing, "what fails elsewhere does not make bank fail anew")
	assert.Equal(t, maxFailing, r.alerts.failures)
	assert.Len(t, r.alerts.failing["evil"], maxFailing-1)
	assert.LessOrEqual(t, len(got[0].Text), maxMessage)
}

// Namespaces come and go, and what has failed in them is in none of the events.
func TestFailuresOfManyNamespacesAreBounded(t *testing.T) {
	m, _ := newMetrics(t)
	var got told
	r := New(m, nil, &got)
	for i := range 3 * maxFailing {
		failing := reload(source(reloader.ConfigMap, "settings"))
		failing.Workload.Namespace = fmt.Sprint("preview-", i)
		r.Failed(failing, reloader.OutcomeRetry, errors.New("no answer"))
	}
	assert.Len(t, got, 3*maxFailing)
	assert.Equal(t, maxFailing, r.alerts.failures)
	namespaces := len(r.alerts.failing)
	assert.Equal(t, maxFailing, namespaces)
}
