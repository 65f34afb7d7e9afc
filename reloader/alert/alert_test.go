package alert

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"k8s-reloader/reloader/receiver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	soon  = 10 * time.Second
	often = time.Millisecond
)

func say(s string) Text { return Text{}.Plainly(s) }

func environment(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func TestSettings(t *testing.T) {
	const url = "https://chat.example/hunter2"
	tests := map[string]struct {
		environment map[string]string
		wantOff     bool
		wantSink    Sink
		wantInfo    string
		wantErr     string
	}{
		"nothing":               {wantOff: true},
		"off":                   {environment: map[string]string{envOn: "false", envSink: "nonsense"}, wantOff: true},
		"neither true nor not":  {environment: map[string]string{envOn: "yes", envURL: url}, wantOff: true},
		"everything else is on": {environment: map[string]string{envURL: url, envSink: "slack"}, wantOff: true},
		"plain":                 {environment: map[string]string{envOn: "true", envURL: url + "\n"}, wantSink: Plain},
		"webhook":               {environment: map[string]string{envOn: "true", envURL: url, envSink: "webhook"}, wantSink: Plain},
		"slack": {
			environment: map[string]string{envOn: "true", envURL: url, envSink: "Slack", envInfo: "cluster a"},
			wantSink:    Slack, wantInfo: "cluster a",
		},
		"teams":       {environment: map[string]string{envOn: "TRUE", envURL: url, envSink: " teams "}, wantSink: Teams},
		"gchat":       {environment: map[string]string{envOn: "1", envURL: url, envSink: "gchat", envProxy: "http://proxy:3128"}, wantSink: GChat},
		"no receiver": {environment: map[string]string{envOn: "true"}, wantErr: "ALERT_ON_RELOAD is true, but ALERT_WEBHOOK_URL is not set: set it, or leave out ALERT_ON_RELOAD"},
		"a receiver that is none": {
			environment: map[string]string{envOn: "true", envURL: "hunter2"},
			wantErr:     "ALERT_WEBHOOK_URL, ALERT_WEBHOOK_PROXY: the URL does not begin with http:// or https://",
		},
		"a proxy that is none": {
			environment: map[string]string{envOn: "true", envURL: url, envProxy: "hunter2"},
			wantErr:     "ALERT_WEBHOOK_URL, ALERT_WEBHOOK_PROXY: the proxy does not begin with http:// or https:// or socks5://",
		},
		"an unknown sink": {
			environment: map[string]string{envOn: "true", envURL: url, envSink: "pigeon"},
			wantErr:     `ALERT_SINK: "pigeon" is unknown: use slack, teams, gchat or webhook`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := FromEnvironment(environment(tc.environment))
			if tc.wantErr != "" {
				require.EqualError(t, err, tc.wantErr)
				return
			}
			require.NoError(t, err)
			if tc.wantOff {
				assert.Nil(t, s)
				return
			}
			assert.Equal(t, tc.wantSink, s.Sink)
			assert.Equal(t, tc.wantInfo, s.Info)
			assert.Equal(t, "https://chat.example", s.Receiver.String())
		})
	}
}

func TestBodies(t *testing.T) {
	good := Alert{Text: say("Reloaded ").Boldly("web")}
	bad := Alert{Text: say("Could not reload ").Boldly("web"), Failure: true}
	tests := map[string]struct {
		sink     Sink
		alert    Alert
		info     string
		wantType string
		want     string
	}{
		"plain":             {Plain, good, "", "text/plain; charset=utf-8", "Reloaded web"},
		"plain, with info":  {Plain, good, "cluster a", "text/plain; charset=utf-8", "cluster a : Reloaded web"},
		"slack":             {Slack, good, "", "application/json", `{"attachments":[{"text":"Reloaded *web*","color":"good","author_name":"Reloader"}]}`},
		"slack, a failure":  {Slack, bad, "", "application/json", `{"attachments":[{"text":"Could not reload *web*","color":"danger","author_name":"Reloader"}]}`},
		"teams":             {Teams, good, "", "application/json", `{"text":"Reloaded *web*"}`},
		"gchat, with info":  {GChat, bad, "cluster a", "application/json", `{"text":"cluster a : Could not reload *web*"}`},
		"slack, with quote": {Slack, Alert{Text: say(`"`)}, "", "application/json", `{"attachments":[{"text":"\"","color":"good","author_name":"Reloader"}]}`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			contentType, body, err := tc.sink.body(tc.alert, tc.info)
			require.NoError(t, err)
			assert.Equal(t, tc.wantType, contentType)
			assert.Equal(t, tc.want, string(body))
		})
	}
}

// world is a sender, its receiver and what they say.
type world struct {
	sender *Sender
	stop   func() // ends Run and waits for it

	mu     sync.Mutex // guards everything below
	bodies []string
	counts map[string]int
	log    bytes.Buffer
}

// newWorld runs a sender to a receiver that answers as the function says; it is
// given how many posts have come before. It is waited for, unless set names a
// receiver of less patience.
func newWorld(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request), set func(*Options)) *world {
	t.Helper()
	made := &world{counts: map[string]int{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		made.mu.Lock()
		n := len(made.bodies)
		made.bodies = append(made.bodies, string(body))
		made.mu.Unlock()
		answer(n, w, r)
	}))
	t.Cleanup(server.Close)
	to, err := receiver.New(receiver.Options{URL: server.URL + "/hunter2", Timeout: time.Minute})
	require.NoError(t, err)
	t.Cleanup(to.Close)
	o := Options{
		Settings:   Settings{Sink: Plain, Receiver: to},
		FirstRetry: time.Millisecond,
		Count: func(result string) {
			made.mu.Lock()
			defer made.mu.Unlock()
			made.counts[result]++
		},
		Log: funcr.New(func(_, args string) {
			made.mu.Lock()
			defer made.mu.Unlock()
			fmt.Fprintln(&made.log, args)
		}, funcr.Options{}),
	}
	if set != nil {
		set(&o)
	}
	made.sender, err = New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { made.sender.Run(ctx) })
	made.stop = func() { cancel(); running.Wait() }
	t.Cleanup(made.stop)
	return made
}

func (w *world) count(result string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[result]
}

func (w *world) posts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.bodies)
}

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func code(codes ...int) func(int, http.ResponseWriter, *http.Request) {
	return func(n int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(codes[min(n, len(codes)-1)]) }
}

func TestSending(t *testing.T) {
	tests := map[string]struct {
		answer    func(int, http.ResponseWriter, *http.Request)
		want      string // the result
		wantPosts int
	}{
		"to one that answers":             {code(200), Sent, 1},
		"to one that answers 500 first":   {code(500, 200), Sent, 2},
		"to one that has too much to do":  {code(429, 429, 200), Sent, 3},
		"to one that refuses":             {code(403), Failed, 1},
		"to one that redirects":           {code(302), Failed, 1},
		"to one that always answers 500":  {code(500), Failed, 6},
		"to one that cuts the connection": {func(n int, w http.ResponseWriter, _ *http.Request) { cut(n < 2); w.WriteHeader(200) }, Sent, 3},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.answer, nil)
			w.sender.Send(Alert{Text: say("hello")})
			require.Eventually(t, func() bool { return w.count(tc.want) == 1 }, soon, often)
			assert.Equal(t, tc.wantPosts, w.posts())
			assert.NotContains(t, w.logged(), "hunter2")
			assert.Equal(t, tc.want == Failed, strings.Contains(w.logged(), "an alert could not be sent"))
		})
	}
}

func cut(now bool) {
	if now {
		panic(http.ErrAbortHandler)
	}
}

// How often it is asked is not told: a machine may be too busy for the second
// answer, too.
func TestWhoTakesTooLongIsAskedAgain(t *testing.T) {
	w := newWorld(t, func(n int, _ http.ResponseWriter, r *http.Request) {
		if n < 1 {
			<-r.Context().Done() // nobody waits for it any more
		}
	}, func(o *Options) { o.Settings.Receiver = impatient(t, o.Settings.Receiver.String()) })
	w.sender.Send(Alert{Text: say("hello")})
	require.Eventually(t, func() bool { return w.count(Sent) == 1 }, soon, often)
	assert.Greater(t, w.posts(), 1)
}

// impatient is a receiver at the same place that is waited for briefly.
func impatient(t *testing.T, url string) *receiver.Receiver {
	t.Helper()
	to, err := receiver.New(receiver.Options{URL: url, Timeout: 200 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(to.Close)
	return to
}

func TestADeadReceiverHoldsUpNobody(t *testing.T) {
	const queue, more = 4, 20
	dead := make(chan struct{})
	revive := sync.OnceFunc(func() { close(dead) })
	w := newWorld(t, func(int, http.ResponseWriter, *http.Request) { <-dead },
		func(o *Options) { o.Queue, o.Attempts = queue, 1 })
	t.Cleanup(revive)
	w.sender.Send(Alert{Text: say("first")})
	require.Eventually(t, func() bool { return w.posts() == 1 }, soon, often)
	for range queue + more {
		w.sender.Send(Alert{Text: say("more")})
	}
	assert.Equal(t, more, w.count(Dropped), "Send has not waited for the receiver")
	assert.Equal(t, 1, strings.Count(w.logged(), "dropping alerts"))
	assert.NotContains(t, w.logged(), "hunter2")
	revive()
	require.Eventually(t, func() bool { return w.count(Sent) == 1+queue }, soon, often)
	w.sender.Send(Alert{Text: say("there is room again")})
	assert.Contains(t, w.logged(), "alerts are sent again")
}

// Whoever is told may send an alert about it.
func TestNobodyIsToldUnderTheLock(t *testing.T) {
	to, err := receiver.New(receiver.Options{URL: "http://127.0.0.1/hunter2"})
	require.NoError(t, err)
	t.Cleanup(to.Close)
	var s *Sender
	var told []string
	tell := func(what string) {
		told = append(told, what)
		if assert.True(t, s.mu.TryLock(), what) {
			s.mu.Unlock()
		}
	}
	s, err = New(Options{
		Settings: Settings{Sink: Plain, Receiver: to}, Queue: 1, Count: tell,
		Log: funcr.New(func(_, args string) { tell(args) }, funcr.Options{}),
	})
	require.NoError(t, err)
	for range 3 {
		s.Send(Alert{Text: say("no room for more than one")})
	}
	_, ok := s.next()
	require.True(t, ok)
	s.Send(Alert{Text: say("room again")})
	require.Len(t, told, 4)
	assert.Contains(t, told[0], "dropping alerts")
	assert.Equal(t, []string{Dropped, Dropped}, told[1:3])
	assert.Contains(t, told[3], `"dropped"=2`)
}

func TestWhatWaitsIsSentAtTheEnd(t *testing.T) {
	const alerts = 5
	release := make(chan struct{})
	w := newWorld(t, func(int, http.ResponseWriter, *http.Request) { <-release }, func(o *Options) { o.Drain = soon })
	for range alerts {
		w.sender.Send(Alert{Text: say("hello")})
	}
	go close(release)
	w.stop()
	assert.Equal(t, alerts, w.count(Sent))
	w.sender.Send(Alert{Text: say("too late")})
	assert.Equal(t, 1, w.count(Dropped))
}

func TestTheEndIsBounded(t *testing.T) {
	const alerts = 5
	w := newWorld(t, code(500), func(o *Options) { o.Drain, o.FirstRetry = 20*time.Millisecond, time.Hour })
	for range alerts {
		w.sender.Send(Alert{Text: say("hello")})
	}
	require.Eventually(t, func() bool { return w.posts() == 1 }, soon, often)
	w.stop()
	assert.Equal(t, 1, w.count(Failed))
	assert.Equal(t, alerts-1, w.count(Dropped))
	assert.Contains(t, w.logged(), "stopped before all alerts were sent")
}

func TestNamespacesTakeTurns(t *testing.T) {
	release := make(chan struct{})
	w := newWorld(t, func(n int, _ http.ResponseWriter, _ *http.Request) {
		if n == 0 {
			<-release
		}
	}, func(o *Options) { o.Queue = 8 })
	send := func(namespace, text string) { w.sender.Send(Alert{Namespace: namespace, Text: say(text)}) }
	send("evil", "sent at once")
	require.Eventually(t, func() bool { return w.posts() == 1 }, soon, often)
	for i := range 100 {
		send("evil", fmt.Sprint("evil ", i))
	}
	send("shop", "shop 0")
	send("bank", "bank 0")
	send("shop", "shop 1")
	close(release)
	require.Eventually(t, func() bool { return w.count(Sent) == 9 }, soon, often)
	assert.Equal(t, 95, w.count(Dropped))
	w.mu.Lock()
	defer w.mu.Unlock()
	assert.Equal(t, []string{"sent at once", "evil 0", "shop 0", "bank 0", "evil 1", "shop 1", "evil 2", "evil 3", "evil 4"}, w.bodies)
}

func TestOptionsThatCannotBeUsed(t *testing.T) {
	_, err := New(Options{Queue: -1})
	require.ErrorContains(t, err, "no receiver")
	require.ErrorContains(t, err, "unknown sink")
	require.ErrorContains(t, err, "negative")
}

func TestAPanicCostsOneAlert(t *testing.T) {
	var results []string
	to, err := receiver.New(receiver.Options{URL: "http://127.0.0.1:1"})
	require.NoError(t, err)
	defer to.Close()
	s, err := New(Options{Settings: Settings{Sink: Plain, Receiver: to}, Count: func(result string) { results = append(results, result) }})
	require.NoError(t, err)
	s.options.Settings.Receiver = nil // as good as a hole in what makes the message
	s.Send(Alert{Namespace: "shop"})
	s.Send(Alert{Namespace: "shop"})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s.Run(ctx)
	assert.Equal(t, []string{Failed, Failed}, results)
}
