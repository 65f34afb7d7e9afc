package webhook

import (
	"context"
	"errors"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// maxBody is the largest review that is read, in bytes. The API server takes
	// objects of up to 3 MiB; a review of an update holds two of them, and the
	// rest of it needs far less than 1 MiB.
	maxBody = 7 << 20
	// minCharge is what a review counts at least, however small it is.
	minCharge = 64 << 10
	// DefaultMaxBytes bounds the reviews that are worked on at a time. Decoding
	// takes about five times the size of a review, so this stays well within the
	// memory of the chart's pods; it is room for 512 reviews of usual size.
	DefaultMaxBytes = 32 << 20
	// patience is how long a review waits for room: a third of the API server's
	// timeout, as the chart sets it.
	patience = time.Second
)

var (
	errTooLarge   = errors.New("larger than two objects of the largest size")
	errOverloaded = errors.New("too many reviews at a time")
)

// room bounds the memory that reviews take together, whoever sends them. It is
// safe for concurrent use.
type room struct {
	bytes    *semaphore.Weighted
	patience time.Duration
}

func newRoom(maxBytes int64) *room {
	return &room{bytes: semaphore.NewWeighted(max(maxBytes, maxBody)), patience: patience}
}

// enter waits until there is room for the request's body, which is not read
// meanwhile, and bounds it. The error is errTooLarge or errOverloaded; without
// one, leave has to be called.
func (r *room) enter(rw http.ResponseWriter, req *http.Request) (leave func(), err error) {
	charge := req.ContentLength
	switch {
	case charge > maxBody:
		return nil, errTooLarge
	case charge < 0: // unknown
		charge = maxBody
	}
	charge = max(charge, minCharge)
	ctx, cancel := context.WithTimeout(req.Context(), r.patience)
	defer cancel()
	if err := r.bytes.Acquire(ctx, charge); err != nil {
		return nil, errOverloaded
	}
	if req.Body != http.NoBody { // which is looked for further on
		req.Body = http.MaxBytesReader(rw, req.Body, maxBody)
	}
	return func() { r.bytes.Release(charge) }, nil
}
