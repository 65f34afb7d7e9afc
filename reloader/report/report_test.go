package report

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"k8s-reloader/reloader"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func reload(sources ...reloader.Source) Reload {
	return Reload{
		Workload:   reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: "web"},
		UID:        "first",
		APIVersion: "apps/v1",
		Sources:    sources,
		Latency:    3 * time.Millisecond,
	}
}

func source(k reloader.SourceKind, name string) reloader.Source {
	return reloader.Source{Kind: k, Namespace: "shop", Name: name}
}

func newMetrics(t *testing.T) (*Metrics, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	m, err := NewMetrics(registry, MetricsOptions{})
	require.NoError(t, err)
	return m, registry
}

// recorded starts an API server that takes events, and returns them.
func recorded(t *testing.T) (*rest.Config, <-chan corev1.Event) {
	t.Helper()
	events := make(chan corev1.Event, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event corev1.Event
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil || r.Method != http.MethodPost || r.URL.Path != "/api/v1/namespaces/shop/events" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		events <- event
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(event)
	}))
	transport := new(http.Transport)
	t.Cleanup(func() { transport.CloseIdleConnections(); server.Close() })
	config := &rest.Config{Host: server.URL, Transport: transport}
	config.ContentType = "application/json"
	return config, events
}

func next(t *testing.T, events <-chan corev1.Event) corev1.Event {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(10 * time.Second):
		require.Fail(t, "no event")
		return corev1.Event{}
	}
}

func TestEveryReloadIsOneEvent(t *testing.T) {
	config, written := recorded(t)
	events, err := NewEvents(t.Context(), config)
	require.NoError(t, err)
	defer events.Close()
	m, _ := newMetrics(t)
	r := New(m, events, nil)
	tests := map[string]struct {
		tell          func()
		wantType      string
		wantReason    string
		wantComponent string
		wantMessage   string
	}{
		"because of a ConfigMap": {
			tell:          func() { r.Reloaded(reload(source(reloader.ConfigMap, "settings"))) },
			wantType:      corev1.EventTypeNormal,
			wantReason:    "Reloaded",
			wantComponent: "reloader-configmaps",
			wantMessage:   "Reloaded, because the content changed of ConfigMap shop/settings",
		},
		"because of a Secret": {
			tell:          func() { r.Reloaded(reload(source(reloader.Secret, "password"))) },
			wantType:      corev1.EventTypeNormal,
			wantReason:    "Reloaded",
			wantComponent: "reloader-secrets",
			wantMessage:   "Reloaded, because the content changed of Secret shop/password",
		},
		"because of a SecretProviderClass": {
			tell:          func() { r.Reloaded(reload(source(reloader.SecretProviderClass, "vault"))) },
			wantType:      corev1.EventTypeNormal,
			wantReason:    "Reloaded",
			wantComponent: "reloader-secretproviderclasspodstatuses",
			wantMessage:   "Reloaded, because the content changed of SecretProviderClass shop/vault",
		},
		"because of what is no kind of source": {
			tell:          func() { r.Reloaded(reload(source("Nonsense", "x"))) },
			wantType:      corev1.EventTypeNormal,
			wantReason:    "Reloaded",
			wantComponent: "reloader",
			wantMessage:   "Reloaded, because the content changed of Nonsense shop/x",
		},
		"because of several, under the first": {
			tell: func() {
				r.Reloaded(reload(source(reloader.ConfigMap, "settings"), source(reloader.Secret, "password")))
			},
			wantType:      corev1.EventTypeNormal,
			wantReason:    "Reloaded",
			wantComponent: "reloader-configmaps",
			wantMessage:   "Reloaded, because the content changed of ConfigMap shop/settings, Secret shop/password",
		},
		"that was a call of the webhook": {
			tell: func() {
				posted := reload(source(reloader.ConfigMap, "settings"))
				posted.Posted = true
				r.Reloaded(posted)
			},
			wantType:      corev1.EventTypeNormal,
			wantReason:    "WebhookCalled",
			wantComponent: "reloader-configmaps",
			wantMessage:   "Called the webhook instead of reloading, because the content changed of ConfigMap shop/settings",
		},
		"that failed": {
			tell: func() {
				r.Failed(reload(source(reloader.Secret, "password")), reloader.OutcomeRetry, errors.New("no answer"))
			},
			wantType:      corev1.EventTypeWarning,
			wantReason:    "ReloadFail",
			wantComponent: "reloader-secrets",
			wantMessage:   "Not reloaded yet (trying again), although the content changed of Secret shop/password: no answer",
		},
		"that failed with text of a stranger": {
			tell: func() {
				r.Failed(reload(source(reloader.Secret, "password")), reloader.OutcomeRetry, errors.New("no \x1b[31manswer\nINF reloaded \u202e"))
			},
			wantType:      corev1.EventTypeWarning,
			wantReason:    "ReloadFail",
			wantComponent: "reloader-secrets",
			wantMessage:   "Not reloaded yet (trying again), although the content changed of Secret shop/password: no \ufffd[31manswer INF reloaded \ufffd",
		},
		"that can never come, by what is wrong": {
			tell: func() {
				r.Faulty(reload(), []reloader.Problem{{Reason: reloader.ReasonEntryInvalid, Message: "what to do"}})
			},
			wantType:      corev1.EventTypeWarning,
			wantReason:    "EntryInvalid",
			wantComponent: "reloader",
			wantMessage:   "what to do",
		},
		"that was refused": {
			tell: func() {
				r.Failed(reload(source(reloader.Secret, "password")), reloader.OutcomeStalled, errors.New("forbidden"))
			},
			wantType:      corev1.EventTypeWarning,
			wantReason:    "ReloadFail",
			wantComponent: "reloader-secrets",
			wantMessage:   "Not reloaded yet (trying again slowly until someone lifts the refusal), although the content changed of Secret shop/password: forbidden",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tc.tell()
			e := next(t, written)
			assert.Equal(t, corev1.ObjectReference{
				Kind: "Deployment", APIVersion: "apps/v1", Namespace: "shop", Name: "web", UID: "first",
			}, e.InvolvedObject)
			assert.Equal(t, tc.wantType, e.Type)
			assert.Equal(t, tc.wantReason, e.Reason)
			assert.Equal(t, tc.wantMessage, e.Message)
			assert.Equal(t, tc.wantComponent, e.Source.Component)
			assert.Equal(t, int32(1), e.Count)
			assert.Empty(t, written)
		})
	}
}

func TestEventsAfterCloseHoldUpNothing(t *testing.T) {
	config, written := recorded(t)
	events, err := NewEvents(t.Context(), config)
	require.NoError(t, err)
	events.Close()
	m, _ := newMetrics(t)
	New(m, events, nil).Reloaded(reload(source(reloader.ConfigMap, "settings")))
	assert.Empty(t, written)
}

func TestEventsOfAServerThatIsNotThereHoldUpNothing(t *testing.T) {
	config, _ := recorded(t)
	config.Host = "http://127.0.0.1:1"
	ctx, cancel := context.WithCancel(t.Context())
	events, err := NewEvents(ctx, config)
	require.NoError(t, err)
	m, registry := newMetrics(t)
	r := New(m, events, nil)
	for range 5000 {
		r.Reloaded(reload(source(reloader.ConfigMap, "settings")))
	}
	cancel()
	events.Close()
	assert.InDelta(t, 5000, testutil.ToFloat64(m.reloads.WithLabelValues("true")), 0)
	assert.NotNil(t, registry)
}

func TestMessagesFitTheAPI(t *testing.T) {
	tests := map[string]struct {
		text string
		want string
	}{
		"short":                        {"abc", "abc"},
		"just as long as it may be":    {strings.Repeat("a", 1024), strings.Repeat("a", 1024)},
		"one too long":                 {strings.Repeat("a", 1025), strings.Repeat("a", 1021) + "..."},
		"cut within a character":       {strings.Repeat("a", 1020) + strings.Repeat("€", 9), strings.Repeat("a", 1020) + "..."},
		"nothing but long characters":  {strings.Repeat("𝄞", 300), strings.Repeat("𝄞", 255) + "..."},
		"cut just before a character":  {strings.Repeat("a", 1021) + strings.Repeat("é", 9), strings.Repeat("a", 1021) + "..."},
		"longer in bytes than in text": {strings.Repeat("é", 513), strings.Repeat("é", 510) + "..."},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := clip(tc.text)
			assert.Equal(t, tc.want, got)
			assert.LessOrEqual(t, len(got), 1024)
			assert.True(t, utf8.ValidString(got))
		})
	}
	many := make([]reloader.Source, 200)
	for i := range many {
		many[i] = source(reloader.ConfigMap, strings.Repeat("n", 20))
	}
	for _, message := range []string{
		reloadedMessage(reload(many...)) + ": no answer", failedMessage(reload(many...), reloader.OutcomeRetry, errors.New("no answer")),
	} {
		assert.Regexp(t, `shop/n+ and 18[0-9] more: no answer$`, message)
		assert.LessOrEqual(t, len(message), 1024)
	}
}

func TestMetrics(t *testing.T) {
	m, registry := newMetrics(t)
	r := New(m, nil, nil)
	r.Reloaded(reload(source(reloader.ConfigMap, "settings")))
	r.Failed(reload(source(reloader.ConfigMap, "settings")), reloader.OutcomeRetry, errors.New("no"))
	r.Failed(reload(source(reloader.ConfigMap, "settings")), reloader.OutcomeStalled, errors.New("no"))
	r.Corrected(reloader.Workload{Kind: reloader.StatefulSet, Namespace: "shop", Name: "worker"})

	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP reloader_action_total Attempts to reload a workload, by kind and result.
# TYPE reloader_action_total counter
reloader_action_total{result="error",workload_kind="Deployment"} 2
reloader_action_total{result="success",workload_kind="Deployment"} 1
# HELP reloader_index_corrections_total Workloads whose index entry was wrong at the periodic verification. Zero is normal.
# TYPE reloader_index_corrections_total counter
reloader_index_corrections_total{workload_kind="StatefulSet"} 1
# HELP reloader_reload_executed_total Attempts to reload a workload, by success.
# TYPE reloader_reload_executed_total counter
reloader_reload_executed_total{success="false"} 2
reloader_reload_executed_total{success="true"} 1
`), "reloader_action_total", "reloader_index_corrections_total", "reloader_reload_executed_total"))
	count, err := testutil.GatherAndCount(registry, "reloader_action_latency_seconds")
	require.NoError(t, err)
	assert.Equal(t, 1, count)
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	assert.Empty(t, problems)
}

func TestFaultsAreCountedAndTold(t *testing.T) {
	m, registry := newMetrics(t)
	New(m, nil, nil).Faulty(Reload{Workload: reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: "web"}}, []reloader.Problem{
		{Reason: reloader.ReasonEntryInvalid}, {Reason: reloader.ReasonEntryInvalid}, {Reason: reloader.ReasonWindowInvalid},
	})
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP reloader_annotation_faults_total Annotation values that cannot be used, by reason; counted when detected.
# TYPE reloader_annotation_faults_total counter
reloader_annotation_faults_total{reason="EntryInvalid"} 2
reloader_annotation_faults_total{reason="WindowInvalid"} 1
`), "reloader_annotation_faults_total"))
}

func TestBothOutcomesAreThereFromTheStart(t *testing.T) {
	_, registry := newMetrics(t)
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP reloader_reload_executed_total Attempts to reload a workload, by success.
# TYPE reloader_reload_executed_total counter
reloader_reload_executed_total{success="false"} 0
reloader_reload_executed_total{success="true"} 0
`), "reloader_reload_executed_total"))
}

func TestNamesThatAreTakenAreAnError(t *testing.T) {
	_, registry := newMetrics(t)
	_, err := NewMetrics(registry, MetricsOptions{})
	require.Error(t, err)
}
