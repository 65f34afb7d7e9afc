package certs

import (
	"net/http"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"
)

// dates answers every request with that time.
type dates struct{ header string }

func (d dates) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{Header: http.Header{"Date": {d.header}}, Body: http.NoBody}, nil
}

func TestTheAPIServersTimeCounts(t *testing.T) {
	tests := map[string]struct {
		header string
		want   time.Time
	}{
		"years behind":       {noon.Add(-3 * 365 * 24 * time.Hour).Format(http.TimeFormat), noon.Add(-3 * 365 * 24 * time.Hour)},
		"years ahead":        {noon.Add(3 * 365 * 24 * time.Hour).Format(http.TimeFormat), noon.Add(3 * 365 * 24 * time.Hour)},
		"nearly the same":    {noon.Add(30 * time.Second).Format(http.TimeFormat), noon},
		"a time that is not": {"yesterday", noon},
		"no time":            {"", noon},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			fake := clocktesting.NewFakeClock(noon)
			c := NewServerClock(fake, logr.Discard())
			assert.Equal(t, noon, c.Now())
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://127.0.0.1", nil)
			require.NoError(t, err)
			answer, err := c.Transport(dates{tc.header}).RoundTrip(request)
			require.NoError(t, err)
			require.NoError(t, answer.Body.Close())
			assert.Equal(t, tc.want, c.Now())
			fake.Step(time.Hour)
			assert.Equal(t, tc.want.Add(time.Hour), c.Now())
		})
	}
}

// One replica's clock is three years ahead: for it every certificate has expired,
// and what it makes is not valid yet for the others.
func TestReplicasWithOtherClocksDoNotRenewInTurns(t *testing.T) {
	w := newWorld(nil)
	right := w.run(t, w.client())
	w.ready(t, right)
	require.Equal(t, 1, w.secrets.written())

	ahead := NewServerClock(clocktesting.NewFakeClock(noon.Add(3*365*24*time.Hour)), logr.Discard())
	ahead.observe(http.Header{"Date": {noon.Format(http.TimeFormat)}})
	wrong := w.runWith(t, w.client(), func(o *Options) { o.Clock = ahead })
	require.Eventually(t, func() bool { return wrong.Ready() == nil }, deadline, tick)
	assert.Equal(t, leafOf(t, right), leafOf(t, wrong))
	assert.Equal(t, 1, w.secrets.written())
}
