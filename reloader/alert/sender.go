package alert

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"k8s-reloader/reloader/guard"
	"k8s-reloader/reloader/receiver"
)

// What becomes of an alert, for Options.Count.
const (
	Sent    = "sent"
	Failed  = "failed"
	Dropped = "dropped"
)

// Options of a Sender. The zero value of a field with a default means the
// default.
type Options struct {
	// Settings as the environment asks for. Required.
	Settings Settings
	// Queue is how many alerts may wait; default 256.
	Queue int
	// Attempts to send one alert; default 6.
	Attempts int
	// FirstRetry is the time before the second attempt, and doubles with each;
	// default 1 s.
	FirstRetry time.Duration
	// Drain is how long Run continues after its context is done, to send the
	// alerts that are queued; default 5 s.
	Drain time.Duration
	// Count is called once per alert with Sent, Failed or Dropped. It must not
	// block. Default: none.
	Count func(result string)
	// Log reports alerts that cannot be sent; default none.
	Log logr.Logger
}

func (o Options) withDefaults() Options {
	if o.Queue == 0 {
		o.Queue = 256
	}
	if o.Attempts == 0 {
		o.Attempts = 6
	}
	if o.FirstRetry == 0 {
		o.FirstRetry = time.Second
	}
	if o.Drain == 0 {
		o.Drain = 5 * time.Second
	}
	if o.Count == nil {
		o.Count = func(string) {}
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	return o
}

// Validate joins everything that is wrong with the options.
func (o Options) Validate() error {
	var problems []error
	if o.Settings.Receiver == nil {
		problems = append(problems, errors.New("no receiver"))
	}
	if _, _, err := o.Settings.Sink.body(Alert{}, ""); err != nil {
		problems = append(problems, err)
	}
	if o.Queue < 0 || o.Attempts < 0 || o.FirstRetry < 0 || o.Drain < 0 {
		problems = append(problems, errors.New("a negative limit"))
	}
	return errors.Join(problems...)
}

// Sender sends alerts, one after another. Send may be called by many at once;
// Run is called once.
type Sender struct {
	options Options

	// wake holds one token: something waits, or Run takes no more.
	wake chan struct{}

	mu      sync.Mutex // guards everything below
	waiting line
	closed  bool
	// dropped counts those in a row for which there was no place.
	dropped int
}

// New returns a Sender. It makes no request yet.
func New(o Options) (*Sender, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("alert options: %w", err)
	}
	o = o.withDefaults()
	return &Sender{options: o, wake: make(chan struct{}, 1), waiting: line{room: o.Queue}}, nil
}

// Send puts an alert into the queue and never blocks. If the queue is full, the
// newest of the namespace that has most in it is dropped, which may be this one;
// after Run has ended, this one is.
func (s *Sender) Send(a Alert) {
	queued, dropped := s.queue(a)
	switch {
	case queued && dropped > 0:
		s.options.Log.Info("alerts are sent again", "dropped", dropped)
	case !queued && dropped == 1:
		s.options.Log.Info("the receiver of alerts is too slow; dropping alerts", "receiver", s.options.Settings.Receiver.String())
	}
	if !queued {
		s.options.Count(Dropped)
	}
}

// queue reports whether no alert was dropped, and how many in a row were: with
// this one, or before it. Once Run has ended, none is counted.
func (s *Sender) queue(a Alert) (queued bool, dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, 0
	}
	full := s.waiting.push(a)
	s.signal()
	if full {
		s.dropped++
		return false, s.dropped
	}
	dropped, s.dropped = s.dropped, 0
	return true, dropped
}

func (s *Sender) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// next waits for an alert, and reports false when the queue is closed and empty.
func (s *Sender) next() (Alert, bool) {
	for {
		s.mu.Lock()
		a, ok := s.waiting.pop()
		closed := s.closed
		s.mu.Unlock()
		if ok || closed {
			return a, ok
		}
		<-s.wake
	}
}

// Run sends alerts until ctx is done, and what waits then for as long as
// Options.Drain.
func (s *Sender) Run(ctx context.Context) {
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var worker sync.WaitGroup
	left := 0
	worker.Go(func() {
		for a, ok := s.next(); ok; a, ok = s.next() {
			if sending.Err() != nil {
				left++
				s.options.Count(Dropped)
				continue
			}
			s.guardedSend(sending, a)
		}
	})
	<-ctx.Done()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
	deadline := time.AfterFunc(s.options.Drain, stop)
	defer deadline.Stop()
	worker.Wait()
	if left > 0 {
		s.options.Log.Info("stopped before all alerts were sent", "dropped", left)
	}
}

// guardedSend is send, whose panic costs this alert: its text is others'.
func (s *Sender) guardedSend(ctx context.Context, a Alert) {
	err := guard.Call(func() error { s.send(ctx, a); return nil })
	if err != nil {
		s.options.Log.Error(err, "internal error; an alert is dropped; please report it with the stack", "stack", guard.Stack(err))
		s.options.Count(Failed)
	}
}

// send tries until the alert is sent, refused, or has been tried often enough.
func (s *Sender) send(ctx context.Context, a Alert) {
	contentType, body, err := s.options.Settings.Sink.body(a, s.options.Settings.Info)
	wait := s.options.FirstRetry
	for attempt := 1; err == nil; attempt++ {
		failure := s.options.Settings.Receiver.Post(ctx, contentType, body)
		if failure == nil {
			s.options.Count(Sent)
			return
		}
		if receiver.Refused(failure) || attempt >= s.options.Attempts || !sleep(ctx, wait) {
			err = failure
		}
		wait *= 2
	}
	s.options.Log.Error(err, "an alert could not be sent")
	s.options.Count(Failed)
}

// sleep waits, and reports false if ctx is done before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
