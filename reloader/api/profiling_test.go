package api

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
)

func TestProfiles(t *testing.T) {
	tests := map[string]struct {
		path       string
		wantStatus int
		wantBody   string
	}{
		"the list":       {"/debug/pprof/", http.StatusOK, "goroutine"},
		"goroutines":     {"/debug/pprof/goroutine?debug=1", http.StatusOK, "goroutine profile"},
		"the heap":       {"/debug/pprof/heap?debug=1", http.StatusOK, "heap profile"},
		"something else": {"/metrics", http.StatusNotFound, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			answer := httptest.NewRecorder()
			Profiling().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, tc.path, nil))
			assert.Equal(t, tc.wantStatus, answer.Code)
			assert.Contains(t, answer.Body.String(), tc.wantBody)
		})
	}
}

func TestMetricsAndProbesServeNoProfiles(t *testing.T) {
	answer := httptest.NewRecorder()
	h := Handler(func() error { return nil }, prometheus.NewRegistry())
	h.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/pprof/", nil))
	assert.Equal(t, http.StatusNotFound, answer.Code)
}
