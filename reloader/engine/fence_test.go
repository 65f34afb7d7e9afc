package engine

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestHowLongAFenceIsOpen(t *testing.T) {
	now := time.Now()
	tests := map[string]struct {
		until time.Time
		want  time.Duration
	}{
		"until the lease ends":           {now.Add(3 * time.Second), 3 * time.Second},
		"not when it ends":               {now, 0},
		"not after it":                   {now.Add(-time.Second), 0},
		"not without ever having had it": {time.Time{}, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f := fence{&term{until: tc.until}, clocktesting.NewFakePassiveClock(now)}
			assert.Equal(t, tc.want, f.left())
		})
	}
}

// A process that is frozen after its look at the lease goes on with the request.
func TestAFenceHoldsBackWhatHasPassedTheLookAtTheLease(t *testing.T) {
	var arrived atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived.Add(1) }))
	t.Cleanup(server.Close)
	clock := clocktesting.NewFakePassiveClock(time.Now())
	config := fence{&term{until: clock.Now().Add(10 * time.Second)}, clock}.around(&rest.Config{Host: server.URL})
	client, err := rest.HTTPClientFor(config)
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	send := func() error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, server.URL, strings.NewReader("{}"))
		require.NoError(t, err)
		answer, err := client.Do(request)
		if err == nil {
			assert.NoError(t, answer.Body.Close())
		}
		return err
	}
	require.NoError(t, send())
	clock.SetTime(clock.Now().Add(10 * time.Second))
	require.Error(t, send(), "over the connection that is there")
	require.Error(t, send(), "over a new one")
	conn, err := config.Dial(t.Context(), "tcp", strings.TrimPrefix(server.URL, "http://"))
	require.NoError(t, err)
	_, err = conn.Write([]byte("PATCH"))
	require.ErrorIs(t, err, errLeaseOver)
	require.ErrorIs(t, conn.Close(), net.ErrClosed)
	assert.EqualValues(t, 1, arrived.Load())
}
