package certs

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"
)

// maxSkew is how far a clock may differ from the API server's and still count as
// the same: the header has whole seconds, and answers take time.
const maxSkew = time.Minute

// ServerClock follows the time of the API server, from the Date header of its
// answers, since the API server verifies the certificate. With local clocks, a
// replica that is years ahead would find every certificate expired, the others
// would find its certificates not yet valid, and all would renew in turns.
//
// Until there has been an answer, it is the clock it was made from. Safe for
// concurrent use.
type ServerClock struct {
	clock.Clock
	log  logr.Logger
	skew atomic.Int64 // what the server is ahead, in nanoseconds
}

var _ clock.Clock = (*ServerClock)(nil)

// NewServerClock returns a clock that corrects c by the answers that pass through
// its Transport.
func NewServerClock(c clock.Clock, log logr.Logger) *ServerClock {
	return &ServerClock{Clock: c, log: log}
}

// Now returns the API server's time.
func (c *ServerClock) Now() time.Time { return c.Clock.Now().Add(time.Duration(c.skew.Load())) }

// Since returns the time since t, by the API server's clock.
func (c *ServerClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// Transport returns a transport that reads the time of every answer of next.
func (c *ServerClock) Transport(next http.RoundTripper) http.RoundTripper { return dated{c, next} }

// observe takes over the time of an answer, if it has one.
func (c *ServerClock) observe(answer http.Header) {
	at, err := http.ParseTime(answer.Get("Date"))
	if err != nil {
		return
	}
	skew := at.Sub(c.Clock.Now())
	if skew.Abs() < maxSkew {
		skew = 0
	}
	if before := c.skew.Swap(int64(skew)); before == 0 && skew != 0 {
		c.log.Info("the clock differs from the API server's, which counts for certificates: set it", "difference", skew.Round(time.Second).String())
	}
}

type dated struct {
	clock *ServerClock
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (d dated) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := d.next.RoundTrip(r)
	if err == nil {
		d.clock.observe(answer.Header)
	}
	return answer, err
}

// WrappedRoundTripper is what client-go asks for the transport below.
func (d dated) WrappedRoundTripper() http.RoundTripper { return d.next }
