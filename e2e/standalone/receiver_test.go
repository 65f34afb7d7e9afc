package standalone

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
)

// endpoint is an HTTP server of somebody else's that is posted to.
type endpoint struct {
	url string // with credentials that must not be seen anywhere
	// answer is called for each post; it is given how many have come before.
	answer func(n int, w http.ResponseWriter, r *http.Request)

	mu     sync.Mutex // guards everything below
	bodies []string
}

// newEndpoint starts an endpoint that answers as the function says; nil is 200.
func newEndpoint(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *endpoint {
	t.Helper()
	e := &endpoint{answer: answer}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		e.mu.Lock()
		n := len(e.bodies)
		e.bodies = append(e.bodies, string(body))
		e.mu.Unlock()
		if e.answer != nil {
			e.answer(n, w, r)
		}
	}))
	t.Cleanup(server.Close)
	e.url = "http://user:hunter2@" + server.Listener.Addr().String() + "/hunter2"
	return e
}

// posts returns the bodies that have come, in their order.
func (e *endpoint) posts() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string{}, e.bodies...)
}

// about returns those that contain the text.
func (e *endpoint) about(text string) (found []string) {
	for _, body := range e.posts() {
		if strings.Contains(body, text) {
			found = append(found, body)
		}
	}
	return found
}

// codes answers with one status after another; the last stays.
func codes(all ...int) func(int, http.ResponseWriter, *http.Request) {
	return func(n int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(all[min(n, len(all)-1)]) }
}
