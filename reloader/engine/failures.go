package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader/kind"
)

// class sorts failures by what has to happen before another attempt is of use.
type class int

const (
	// unanswered: nobody knows what came of it. The connection was refused or
	// broke, or time was up.
	unanswered class = iota
	// failed: the API server could not do it, and may have done it all the same, or
	// nothing can be done with its answer.
	failed
	// throttled: the API server asks for less.
	throttled
	// overtaken: somebody else's write was faster.
	overtaken
	// mistaken: the object is not what we took it for. If it is, after it has been
	// read again, the same request is refused for as long as it stays like that.
	mistaken
	// stalled: somebody has to lift it. Rights are missing, an admission webhook
	// or policy says no, or such a webhook is down.
	stalled
	// broken: we panicked.
	broken
)

// classOf is the one place where failures are sorted.
func classOf(err error) class {
	var answer apierrors.APIStatus
	_, refused := errors.AsType[stalledError](err)
	switch {
	case panicked(err):
		return broken
	case refused, denied(err), webhookDown(err), apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return stalled
	case retryAfter(err) > 0:
		return throttled
	case apierrors.IsConflict(err), errors.Is(err, errOutdated), errors.Is(err, errAnother):
		return overtaken
	case errors.Is(err, kind.ErrNoContainer):
		return mistaken
	case errors.As(err, &answer):
		if code := answer.Status().Code; code >= 400 && code < 500 && code != http.StatusRequestTimeout {
			return mistaken
		}
		return failed
	case cutOff(err):
		return unanswered
	}
	return failed
}

// cutOff reports whether an error is one of the connection, or the end of the time
// that there was for an answer.
func cutOff(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}

// webhookDown reports whether the API server could not ask a webhook without
// which it does not go on: 500, as if it were its own fault.
func webhookDown(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	message := status.Status().Message
	return strings.Contains(message, "failed calling webhook ") || strings.Contains(message, "conversion webhook for ")
}

// How long a client waits that is asked to: not at all is no answer, and nobody
// makes it wait for long.
const (
	leastRetryAfter = time.Second
	mostRetryAfter  = 30 * time.Second
)

// retryAfter returns how long the API server asks a client to wait: with 429, or
// with 503 and a time; 0 if it does not. A webhook that answers 429 speaks for its
// object only.
func retryAfter(err error) time.Duration {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) || denied(err) {
		return 0
	}
	status := answer.Status()
	asked := askedToWait(status.Details)
	switch {
	case apierrors.IsTooManyRequests(err):
		return min(max(asked, leastRetryAfter), mostRetryAfter)
	case status.Code == http.StatusServiceUnavailable && asked > 0:
		return min(asked, mostRetryAfter)
	}
	return 0
}

func askedToWait(d *metav1.StatusDetails) time.Duration {
	if d == nil {
		return 0
	}
	// A number that no time has room for is long enough.
	return time.Duration(min(int64(d.RetryAfterSeconds), int64(mostRetryAfter/time.Second))) * time.Second
}
