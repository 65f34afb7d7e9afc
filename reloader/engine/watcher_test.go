package engine

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
)

// A list or a watch that is throttled is made again when the API server has asked
// for it, and no earlier. An extension that is throttled blocks no start meanwhile.
func TestAFeedWaitsAsLongAsItIsAsked(t *testing.T) {
	tests := map[string]struct {
		resource    schema.GroupVersionResource
		err         error
		atLeast     time.Duration
		wantSettled bool
	}{
		"429":                {sourceResource(reloader.Secret), apierrors.NewTooManyRequests("busy", 7), 7 * time.Second, false},
		"429 without a time": {sourceResource(reloader.Secret), apierrors.NewTooManyRequestsError("busy"), time.Second, false},
		"429 for ever":       {sourceResource(reloader.Secret), apierrors.NewTooManyRequests("busy", 1<<31-1), mostRetryAfter, false},
		"503 with a time": {sourceResource(reloader.Secret), &apierrors.StatusError{ErrStatus: metav1.Status{
			Code: http.StatusServiceUnavailable, Details: &metav1.StatusDetails{RetryAfterSeconds: 3},
		}}, 3 * time.Second, false},
		"500":                 {sourceResource(reloader.Secret), apierrors.NewInternalError(assert.AnError), 0, false},
		"429 of an extension": {podStatusResource(), apierrors.NewTooManyRequests("busy", 7), 7 * time.Second, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := clocktesting.NewFakeClock(time.Now())
			w := &watcher{refusals: newRefusals(), clock: c, interval: time.Minute, log: logr.Discard()}
			f := &feed{resource: tc.resource, settled: make(chan struct{})}
			var asked atomic.Int32
			ended := make(chan error, 1)
			go func() {
				_, err := ask(t.Context(), w, f, "list", func() (any, error) {
					if asked.Add(1) == 1 {
						return nil, tc.err
					}
					return nil, nil
				})
				ended <- err
			}()
			if tc.atLeast == 0 {
				assert.ErrorIs(t, <-ended, tc.err, "left to the reflector")
				return
			}
			eventually(t, c.HasWaiters, "it waits")
			c.Step(tc.atLeast - time.Millisecond)
			assert.True(t, c.HasWaiters())
			assert.EqualValues(t, 1, asked.Load())
			select {
			case <-f.settled:
				assert.True(t, tc.wantSettled)
			default:
				assert.False(t, tc.wantSettled)
			}
			// The jitter is half of it.
			c.Step(tc.atLeast)
			require.NoError(t, <-ended)
			assert.EqualValues(t, 2, asked.Load())
		})
	}
}

// Where a part of all requests fails, lists and watches do, too, one after the other.
func TestNoFeedIsBlindForLong(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	next := relist().DelayWithReset(clock, 2*time.Minute)
	var first, longest time.Duration
	for i := range 20 {
		pause := next()
		if i == 0 {
			first = pause
		}
		longest = max(longest, pause)
		clock.Step(pause)
	}
	assert.Less(t, first, time.Second)
	assert.GreaterOrEqual(t, longest, 15*time.Second, "an API server that fails is not asked more and more")
	assert.Less(t, longest, 23*time.Second)
}
