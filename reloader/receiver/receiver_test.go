package receiver

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newReceiver(t *testing.T, o Options) *Receiver {
	t.Helper()
	r, err := New(o)
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
}

func TestAnswers(t *testing.T) {
	tests := map[string]struct {
		answer      http.HandlerFunc
		wantErr     string // empty: none
		wantRefused bool
	}{
		"200": {answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }},
		"204": {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }},
		"a redirect": {
			answer:  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) },
			wantErr: "answered 302 Found (redirects are not followed: name the URL that it leads to)", wantRefused: true,
		},
		"404":              {answer: http.NotFound, wantErr: "answered 404 Not Found", wantRefused: true},
		"408":              {answer: status(http.StatusRequestTimeout), wantErr: "answered 408 Request Timeout"},
		"429":              {answer: status(http.StatusTooManyRequests), wantErr: "answered 429 Too Many Requests"},
		"500":              {answer: status(http.StatusInternalServerError), wantErr: "answered 500 Internal Server Error"},
		"a long answer":    {answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) }},
		"a connection cut": {answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, wantErr: "EOF"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tc.answer)
			defer server.Close()
			r := newReceiver(t, Options{URL: "http://user:hunter2@" + server.Listener.Addr().String() + "/hunter2?token=hunter2"})
			assert.Equal(t, server.URL, r.String())
			err := r.Post(t.Context(), "text/plain", []byte("hello"))
			assert.Equal(t, tc.wantRefused, Refused(err))
			if tc.wantErr == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, "post to "+server.URL+": "+tc.wantErr)
		})
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestWhatArrives(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		user, password, _ := r.BasicAuth()
		got = []string{r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), string(body), user, password}
	}))
	defer server.Close()
	r := newReceiver(t, Options{URL: "http://me:pass@" + server.Listener.Addr().String() + "/path?a=b"})
	require.NoError(t, r.Post(t.Context(), "application/json", []byte(`{"a":1}`)))
	assert.Equal(t, []string{"POST", "/path?a=b", "application/json", `{"a":1}`, "me", "pass"}, got)
}

func TestThroughAProxy(t *testing.T) {
	asked := make(chan string, 1)
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String()
	}))
	defer proxy.Close()
	// Nobody is there; only the proxy is asked.
	r := newReceiver(t, Options{URL: "http://receiver.invalid/path", Proxy: proxy.URL})
	require.NoError(t, r.Post(t.Context(), "text/plain", nil))
	assert.Equal(t, "http://receiver.invalid/path", <-asked)
}

func TestWhoDoesNotAnswer(t *testing.T) {
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-ended }))
	defer server.Close()
	defer close(ended)
	r := newReceiver(t, Options{URL: server.URL + "/hunter2", Timeout: 50 * time.Millisecond})
	err := r.Post(t.Context(), "text/plain", nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.NotContains(t, err.Error(), "hunter2")
	assert.False(t, Refused(err))

	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	err = newReceiver(t, Options{URL: "http://" + l.Addr().String() + "/hunter2"}).Post(t.Context(), "text/plain", nil)
	var network net.Error
	require.ErrorAs(t, err, &network)
	assert.NotContains(t, err.Error(), "hunter2")
}

func TestURLsThatCannotBeUsed(t *testing.T) {
	tests := map[string]struct {
		options Options
		want    string
	}{
		"none":                   {Options{}, "the URL is missing"},
		"without a scheme":       {Options{URL: "hunter2.example/path"}, "the URL does not begin with http:// or https://"},
		"another scheme":         {Options{URL: "ftp://hunter2"}, "the URL does not begin with http:// or https://"},
		"without a host":         {Options{URL: "https:///hunter2"}, "the URL names no host: write one such as https://HOST/PATH"},
		"with a broken password": {Options{URL: "https://user:hunter2#x@host:80"}, "the URL cannot be read: write one such as https://HOST/PATH"},
		"a proxy without a host": {Options{URL: "https://a", Proxy: "http://"}, "the proxy names no host: write one such as http://HOST/PATH"},
		"a proxy, HOST:PORT":     {Options{URL: "https://a", Proxy: "hunter2:3128"}, "the proxy does not begin with http:// or https:// or socks5://"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := New(tc.options)
			require.EqualError(t, err, tc.want)
		})
	}
	assert.False(t, Refused(nil))
	assert.False(t, Refused(errors.New("no answer")))
}
