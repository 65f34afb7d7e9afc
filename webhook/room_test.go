package webhook

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// status posts a body and returns the HTTP status of the answer.
func (h *harness) status(t *testing.T, path string, body []byte) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.server.URL+path, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.server.Client().Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

func TestReviewsOfTwoLargestObjectsAreRead(t *testing.T) {
	t.Parallel()
	h := newHarness(t, nil)
	// The API server takes no object above 3 MiB.
	annotations := map[string]string{auto: "true", "example.com/large": strings.Repeat("x", 3<<20-4096)}
	response := h.send(PathMutateWorkload, request{object: deployment(annotations), old: deployment(annotations)})
	assert.True(t, response.Allowed)
	assert.Empty(t, response.Warnings)
	assert.InDelta(t, 1, h.answers("mutate-workload", answerAllowed), 0)
}

func TestLargerReviewsAreNotRead(t *testing.T) {
	t.Parallel()
	h := newHarness(t, nil)
	status := h.status(t, PathMutateWorkload, make([]byte, maxBody+1))
	assert.Equal(t, http.StatusRequestEntityTooLarge, status, "no answer: the API server lets the request pass")
	assert.InDelta(t, 1, h.failures("mutate-workload", causeUnreadable), 0)
	assert.Contains(t, h.logged(), errTooLarge.Error())
}

func TestWhatThereIsNoRoomForIsLetPass(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(o *Options) { o.MaxBytes = maxBody })
	const fits = maxBody / minCharge
	busy, release := make(chan struct{}, fits), make(chan struct{})
	h.serve(h.webhook.endpoint("mutate-workload", func(admission.Request) (verdict, error) {
		busy <- struct{}{}
		<-release
		return verdict{}, nil
	}))
	var sending sync.WaitGroup
	for range fits {
		sending.Go(func() { assert.True(t, h.send("/", request{object: deployment(nil)}).Allowed) })
	}
	for range fits {
		<-busy
	}

	h.webhook.room.patience = 20 * time.Millisecond
	status := h.status(t, "/", []byte("{}"))
	h.webhook.room.patience = patience
	assert.Equal(t, http.StatusServiceUnavailable, status, "no answer: the API server lets the request pass")
	assert.InDelta(t, 1, h.failures("mutate-workload", causeOverloaded), 0)
	assert.Contains(t, h.logged(), errOverloaded.Error())

	close(release)
	sending.Wait()
	assert.True(t, h.send("/", request{object: deployment(nil), kind: metav1.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}}).Allowed,
		"there is room again")
	assert.InDelta(t, fits+1, h.answers("mutate-workload", answerAllowed), 0)
}
