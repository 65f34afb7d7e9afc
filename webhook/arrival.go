package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"k8s-reloader/webhook/admissionreview"
	"k8s-reloader/webhook/room"
)

// The memory that a review is charged, in bytes: a fixed amount, an amount per byte
// of its buffer (twice, since a growing buffer is copied), and an amount for the
// excerpt and the objects decoded from it, which has an upper bound.
const (
	charge        = 32 << 10
	chargePerByte = 2
	workPerByte   = 128
	maxWork       = 8 << 20
	firstBuffer   = 16 << 10
)

// DefaultMaxBytes bounds the memory of concurrent reviews. It is enough for two of
// the largest, or for about two dozen of usual size, each of which takes well under
// a millisecond. Most of the memory limit in the chart is left to the garbage
// collector and to connections.
const DefaultMaxBytes = 48 << 20

// minBytes is what the largest review needs.
const minBytes = charge + chargePerByte*(admissionreview.MaxBytes+1) + maxWork

const (
	// patience is how long a review waits for room: a third of the API server's
	// timeout, as the chart sets it.
	patience = time.Second
	// receiving is how long a review may take to arrive. An API server sends it
	// at once, and does not wait longer for the answer, as the chart sets it.
	receiving = 3 * time.Second
)

var (
	errTooLarge = errors.New("larger than two objects of the largest size")
	errSlow     = errors.New("did not arrive in time")
)

// arrivals receives reviews, in no more memory than there is room for.
type arrivals struct {
	// known is for API servers that have proved to be one; nil where none can.
	known, others *room.Room
	knows         func(*http.Request) bool

	patience  time.Duration
	receiving time.Duration
}

func newArrivals(bytes int64, knows func(*http.Request) bool) *arrivals {
	a := &arrivals{knows: knows, patience: patience, receiving: receiving}
	if knows == nil {
		a.others = room.New(max(bytes, minBytes))
		return a
	}
	a.known, a.others = room.New(max(bytes/2, minBytes)), room.New(max(bytes/2, minBytes))
	return a
}

// roomFor returns the room that a request may be in.
func (a *arrivals) roomFor(r *http.Request) *room.Room {
	if a.knows != nil && a.knows(r) {
		return a.known
	}
	return a.others
}

// receive reads the body of a request, and waits until there is room for the
// work on it. leave gives the room back; it has to be called, also after an
// error. The error wraps errTooLarge, errSlow, room.ErrFull, room.ErrEvicted, or
// is one of the connection.
func (a *arrivals) receive(rw http.ResponseWriter, r *http.Request) (body []byte, leave func(), err error) {
	ctx, evict := context.WithCancelCause(r.Context())
	place := a.roomFor(r).Enter(address(r), evict)
	ctx, stop := context.WithTimeoutCause(ctx, a.receiving, errSlow)
	// A read is not ended by a context, but by a deadline that is over.
	ended := make(chan struct{})
	watch := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = http.NewResponseController(rw).SetReadDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !watch() {
			<-ended // The writer must not be used after the handler has returned.
		}
		stop()
		evict(nil)
	}()
	body, err = a.read(ctx, r, place)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return body, place.Leave, err
}

// read reads the body into a buffer that grows with what arrives, and settles
// the place.
func (a *arrivals) read(ctx context.Context, r *http.Request, place *room.Place) ([]byte, error) {
	if r.ContentLength > admissionreview.MaxBytes {
		return nil, errTooLarge
	}
	if err := a.grow(ctx, place, charge+chargePerByte*firstBuffer); err != nil {
		return nil, err
	}
	body := make([]byte, 0, firstBuffer)
	for {
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > admissionreview.MaxBytes:
			return nil, errTooLarge
		case errors.Is(err, io.EOF):
			if err := a.grow(ctx, place, min(maxWork, workPerByte*int64(len(body)))); err != nil {
				return nil, err
			}
			if !place.Settle() {
				return nil, room.ErrEvicted
			}
			return body, nil
		case err != nil:
			return nil, fmt.Errorf("read review: %w", err)
		case len(body) == cap(body):
			larger := min(2*cap(body), admissionreview.MaxBytes+1)
			if err := a.grow(ctx, place, chargePerByte*int64(larger-cap(body))); err != nil {
				return nil, err
			}
			body = append(make([]byte, 0, larger), body...)
		}
	}
}

func (a *arrivals) grow(ctx context.Context, place *room.Place, by int64) error {
	ctx, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	return place.Grow(ctx, by)
}

// address returns who sends a request.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
