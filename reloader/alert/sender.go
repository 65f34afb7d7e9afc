package alert

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"

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
	// Drain is how long Run goes on after its context is done, so that what
	// waits is sent; default 5 s.
	Drain time.Duration
	// Count is told Sent, Failed or Dropped, once per alert; default nobody. It
	// must not block.
	Count func(result string)
	// Log receives what cannot be sent; default none.
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

	mu sync.Mutex // guards everything below
	// waiting is closed when Run takes no more.
	waiting chan Alert
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
	return &Sender{options: o, waiting: make(chan Alert, o.Queue)}, nil
}

// Send puts an alert into the queue and never blocks. If the queue is full, or
// Run has ended, the alert is dropped.
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

// queue reports whether there was a place for the alert, and for how many in a
// row there was none: with this one, or before it. Once Run has ended, none is
// counted.
func (s *Sender) queue(a Alert) (queued bool, dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, 0
	}
	select {
	case s.waiting <- a:
		dropped, s.dropped = s.dropped, 0
		return true, dropped
	default:
		s.dropped++
		return false, s.dropped
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
		for a := range s.waiting {
			if sending.Err() != nil {
				left++
				s.options.Count(Dropped)
				continue
			}
			s.send(sending, a)
		}
	})
	<-ctx.Done()
	s.mu.Lock()
	s.closed = true
	close(s.waiting)
	s.mu.Unlock()
	deadline := time.AfterFunc(s.options.Drain, stop)
	defer deadline.Stop()
	worker.Wait()
	if left > 0 {
		s.options.Log.Info("stopped before all alerts were sent", "dropped", left)
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
