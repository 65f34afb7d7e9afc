package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/report"
)

func TestTypesOfErrors(t *testing.T) {
	resource := schema.GroupResource{Group: "apps", Resource: "deployments"}
	tests := map[string]struct {
		err  error
		want string
	}{
		"none":           {nil, ""},
		"a refusal":      {stalledError{apierrors.NewForbidden(resource, "web", errors.New("no"))}, "forbidden"},
		"nobody known":   {apierrors.NewUnauthorized("who"), "forbidden"},
		"a conflict":     {apierrors.NewConflict(resource, "web", errors.New("no")), "conflict"},
		"an old reading": {fmt.Errorf("look: %w", errOutdated), "conflict"},
		"nonsense":       {apierrors.NewBadRequest("no"), "invalid"},
		"too many":       {apierrors.NewTooManyRequests("no", 1), "throttled"},
		"no time":        {fmt.Errorf("read: %w", context.DeadlineExceeded), "timeout"},
		"the API server": {apierrors.NewInternalError(errors.New("no")), "server"},
		"the network":    {&net.OpError{Op: "dial", Err: errors.New("refused")}, "network"},
		"something else": {errors.New("hope"), "other"},
		"another webhook": {&apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Message: `admission webhook "a.example" denied the request: no`,
		}}, "denied"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, errorType(tc.err)) })
	}
}

func TestEveryEventIsCountedOnce(t *testing.T) {
	source := reloader.Source{Kind: reloader.ConfigMap, Namespace: "shop", Name: "settings"}
	queued, idle := func() bool { return true }, func() bool { return false }
	tests := map[string]struct {
		happens func(a *arrivals)
		want    map[string]float64
	}{
		"of a source that nobody depends on": {
			happens: func(a *arrivals) { a.take(source, report.EventAdd, idle) },
			want:    map[string]float64{"received": 1, "success": 1},
		},
		"that tells nothing new": {
			happens: func(a *arrivals) { a.take(source, report.EventUpdate, idle) },
			want:    map[string]float64{"received": 1, "success": 1},
		},
		"that waits": {
			happens: func(a *arrivals) { a.take(source, report.EventUpdate, queued) },
			want:    map[string]float64{"received": 1},
		},
		"of several, one reading": {
			happens: func(a *arrivals) {
				a.take(source, report.EventUpdate, queued)
				a.take(source, report.EventUpdate, queued)
				a.settle(source, true)
			},
			want: map[string]float64{"received": 2, "success": 2},
		},
		"although reading fails at first": {
			happens: func(a *arrivals) {
				a.take(source, report.EventUpdate, queued)
				a.settle(source, false)
				a.settle(source, false)
				a.settle(source, true)
			},
			want: map[string]float64{"received": 1, "error": 2, "success": 1},
		},
		"although the worker is faster": {
			happens: func(a *arrivals) {
				a.take(source, report.EventUpdate, func() bool { a.settle(source, true); return true })
				a.take(source, report.EventUpdate, func() bool { a.settle(source, true); return false })
			},
			want: map[string]float64{"received": 2, "success": 2},
		},
		"that tells nothing new, while another waits": {
			happens: func(a *arrivals) {
				a.take(source, report.EventUpdate, queued)
				a.take(source, report.EventUpdate, idle)
				a.settle(source, true)
			},
			want: map[string]float64{"received": 2, "success": 2},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			m, err := report.NewMetrics(registry, report.MetricsOptions{})
			require.NoError(t, err)
			tc.happens(newArrivals(m))
			assert.Equal(t, tc.want, eventCounts(t, registry))
			tc.happens(newArrivals(nil))
		})
	}
}

// A look counts once what every workload has decided, after the ledger's lock.
func TestDecisionsOfALookAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := report.NewMetrics(registry, report.MetricsOptions{})
	require.NoError(t, err)
	e := newTestEngine(t, unreachable(t), new(told))
	e.metrics = m
	e.intake.observe(web, newApp(web).recorded(t).meta(), moment{})
	e.intake.observe(worker, newApp(worker).recorded(t).meta(), moment{})
	e.ledger.news(settings, 5)
	require.NoError(t, e.lookAt(t.Context(), settings, digest{name: settings.Name, selected: true, content: written(5, "a")}))
	assert.Empty(t, decisionCounts(t, registry), "the first sight is no change")
	require.NoError(t, e.lookAt(t.Context(), settings, digest{name: settings.Name, selected: true, content: written(6, "b")}))
	assert.Equal(t, map[string]float64{
		"reloader_workloads_scanned_total": 2, "reloader_workloads_matched_total": 2,
	}, decisionCounts(t, registry))
	require.NoError(t, e.lookAt(t.Context(), settings, digest{name: settings.Name, selected: true, content: ignored(written(7, "c"))}))
	assert.Equal(t, map[string]float64{
		"reloader_workloads_scanned_total": 4, "reloader_workloads_matched_total": 2, "reloader_skipped_total": 2,
	}, decisionCounts(t, registry))
}

func ignored(c content) content {
	c.wishes.ignore = true
	return c
}

// decisionCounts are the counts of decisions that are not 0, over all labels.
func decisionCounts(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	require.NoError(t, err)
	counts := map[string]float64{}
	for _, f := range families {
		switch name := f.GetName(); name {
		case "reloader_workloads_scanned_total", "reloader_workloads_matched_total", "reloader_skipped_total":
			for _, m := range f.GetMetric() {
				if n := m.GetCounter().GetValue(); n > 0 {
					counts[name] += n
				}
			}
		}
	}
	return counts
}

// eventCounts are the events received, and those processed by their result.
func eventCounts(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	require.NoError(t, err)
	counts := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "reloader_events_received_total":
				counts["received"] += m.GetCounter().GetValue()
			case "reloader_events_processed_total":
				for _, l := range m.GetLabel() {
					if l.GetName() == "result" {
						counts[l.GetValue()] += m.GetCounter().GetValue()
					}
				}
			}
		}
	}
	return counts
}
