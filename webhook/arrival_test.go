package webhook

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"k8s-reloader/webhook/admissionreview"
	"k8s-reloader/webhook/room"
)

// from returns a client that comes from a loopback address of its own.
func (h *harness) from(address string) *http.Client {
	transport, ok := h.server.Client().Transport.(*http.Transport)
	require.True(h.t, ok)
	transport = transport.Clone()
	transport.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext
	h.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// status posts a body and returns the HTTP status of the answer.
func (h *harness) status(client *http.Client, path string, body io.Reader) int {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.server.URL+path, body)
	require.NoError(h.t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	require.NoError(h.t, err)
	require.NoError(h.t, resp.Body.Close())
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

func TestRequestsThatAreNoReviews(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		method, contentType string
		body                io.Reader
		want                int
	}{
		"no JSON":                          {body: strings.NewReader(planted), want: http.StatusBadRequest},
		"nothing":                          {body: http.NoBody, want: http.StatusBadRequest},
		"no UID":                           {body: strings.NewReader(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{}}`), want: http.StatusBadRequest},
		"a GET":                            {method: http.MethodGet, body: http.NoBody, want: http.StatusMethodNotAllowed},
		"protobuf":                         {contentType: "application/vnd.kubernetes.protobuf", body: strings.NewReader("{}"), want: http.StatusUnsupportedMediaType},
		"no type":                          {contentType: "-", body: strings.NewReader("{}"), want: http.StatusUnsupportedMediaType},
		"a type with parameters":           {contentType: "application/json; charset=utf-8", body: strings.NewReader("{}"), want: http.StatusBadRequest},
		"too much, and it says so":         {body: bytes.NewReader(make([]byte, admissionreview.MaxBytes+1)), want: http.StatusRequestEntityTooLarge},
		"too much, and it does not say so": {body: io.LimitReader(endless{}, 16<<20), want: http.StatusRequestEntityTooLarge},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, nil)
			method := tc.method
			if method == "" {
				method = http.MethodPost
			}
			req, err := http.NewRequestWithContext(t.Context(), method, h.server.URL+PathValidateSource, tc.body)
			require.NoError(t, err)
			switch tc.contentType {
			case "":
				req.Header.Set("Content-Type", "application/json")
			case "-":
			default:
				req.Header.Set("Content-Type", tc.contentType)
			}
			resp, err := h.server.Client().Do(req)
			require.NoError(t, err)
			text, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			// No answer: the API server takes it for a failed call, and failurePolicy
			// says what follows.
			assert.Equal(t, tc.want, resp.StatusCode)
			assert.NotContains(t, string(text), "uid")
			assert.NotContains(t, string(text), planted)
			assert.InDelta(t, 1, h.answers("validate-source", answerFailedOpen), 0)
			assert.InDelta(t, 1, h.failures("validate-source", causeUnreadable), 0)
			assert.Contains(t, h.logged(), "admission review refused")
			assert.NotContains(t, h.logged(), planted)
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// dribble starts a request that sends one byte and no more, and returns what
// becomes of it.
func (h *harness) dribble(client *http.Client, length int64) <-chan int {
	body, feed := io.Pipe()
	ctx, cancel := context.WithCancel(h.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.server.URL+PathValidateWorkload, body)
	require.NoError(h.t, err)
	req.Header.Set("Content-Type", "application/json")
	req.ContentLength = length
	ended := make(chan int, 1)
	var running sync.WaitGroup
	running.Go(func() {
		resp, err := client.Do(req)
		if err != nil {
			ended <- 0
			return
		}
		_ = resp.Body.Close()
		ended <- resp.StatusCode
	})
	_, err = feed.Write([]byte("{"))
	require.NoError(h.t, err)
	h.t.Cleanup(func() { cancel(); _ = feed.Close(); running.Wait() })
	return ended
}

func TestAReviewThatDoesNotArriveIsGivenUp(t *testing.T) {
	t.Parallel()
	h := newHarness(t, nil)
	h.webhook.arrivals.receiving = 100 * time.Millisecond
	assert.Equal(t, http.StatusRequestTimeout, <-h.dribble(h.server.Client(), 7<<20))
	assert.InDelta(t, 1, h.failures("validate-workload", causeSlow), 0)
	assert.Contains(t, h.logged(), errSlow.Error())
}

// What a request says of its length takes nothing from others.
func TestIdleSendersTakeNoRoom(t *testing.T) {
	t.Parallel()
	h := newHarness(t, nil)
	for range 50 {
		h.dribble(h.from("127.0.0.2"), 7<<20)
	}
	assert.True(t, h.send(PathMutateWorkload, request{object: deployment(map[string]string{auto: "true"})}).Allowed)
	assert.InDelta(t, 1, h.answers("mutate-workload", answerAllowed), 0)
}

// However many idle requests one address sends: another one gets its answer.
func TestAFullRoomHasPlaceForAnotherAddress(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(o *Options) { o.MaxBytes = minBytes })
	h.webhook.arrivals.receiving, h.webhook.arrivals.patience = time.Minute, 200*time.Millisecond
	const each = charge + chargePerByte*firstBuffer
	var idle []<-chan int
	for range minBytes / each {
		idle = append(idle, h.dribble(h.from("127.0.0.2"), 1000))
	}
	client := h.from("127.0.0.2")
	require.Eventually(t, func() bool {
		return h.status(client, PathMutateWorkload, strings.NewReader("{}")) == http.StatusServiceUnavailable
	}, time.Minute, time.Millisecond, "the room is full for those who have filled it")
	body := bytes.NewReader(reviewOf(t, deployment(map[string]string{auto: "true"}), deployment(nil)))
	assert.Equal(t, http.StatusOK, h.status(h.from("127.0.0.3"), PathMutateWorkload, body))
	assert.Equal(t, http.StatusServiceUnavailable, <-idle[0], "the oldest has made way")
	assert.Contains(t, h.logged(), room.ErrEvicted.Error())
	assert.Positive(t, h.failures("validate-workload", causeOverloaded))
}

func TestWhatThereIsNoRoomForIsLetPass(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(o *Options) { o.MaxBytes = minBytes })
	body := reviewOf(t, deployment(nil), deployment(nil))
	each := charge + chargePerByte*firstBuffer + workPerByte*int64(len(body))
	fits := int(minBytes / each)
	busy, release := make(chan struct{}, fits), make(chan struct{})
	h.serve(h.webhook.endpoint("mutate-workload", func(admission.Request) (verdict, error) {
		busy <- struct{}{}
		<-release
		return verdict{}, nil
	}))
	var sending sync.WaitGroup
	for range fits {
		sending.Go(func() { assert.Equal(t, http.StatusOK, h.status(h.server.Client(), "/", bytes.NewReader(body))) })
	}
	for range fits {
		<-busy
	}
	h.webhook.arrivals.patience = 20 * time.Millisecond
	assert.Equal(t, http.StatusServiceUnavailable, h.status(h.server.Client(), "/", bytes.NewReader(body)),
		"no answer: the API server lets the request pass")
	assert.InDelta(t, 1, h.failures("mutate-workload", causeOverloaded), 0)
	assert.Contains(t, h.logged(), room.ErrFull.Error())

	close(release)
	sending.Wait()
	assert.Equal(t, http.StatusOK, h.status(h.server.Client(), "/", bytes.NewReader(body)), "there is room again")
	assert.InDelta(t, fits+1, h.answers("mutate-workload", answerAllowed), 0)
}

func TestAPIServersThatAreKnownHaveHalf(t *testing.T) {
	t.Parallel()
	a := newArrivals(4*minBytes, func(r *http.Request) bool { return r.Header.Get("Known") != "" })
	enter := func(known string, by int64) error {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
		r.Header.Set("Known", known)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		place := a.roomFor(r).Enter(address(r), func(error) {})
		return place.Grow(ctx, by)
	}
	require.NoError(t, enter("", 2*minBytes))
	require.ErrorIs(t, enter("", 1), room.ErrFull, "the others have half")
	require.NoError(t, enter("yes", 2*minBytes), "the other half is there")
	require.ErrorIs(t, enter("yes", 1), room.ErrFull)

	everyone := newArrivals(4*minBytes, nil)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
	require.NoError(t, everyone.roomFor(r).Enter("a", func(error) {}).Grow(t.Context(), 4*minBytes), "all of it is for everyone")
}
