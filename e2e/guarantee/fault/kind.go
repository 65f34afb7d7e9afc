package fault

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kind is what goes wrong with a request.
type kind string

const (
	none kind = ""
	// conflict answers 409 to a write, without making it.
	conflict kind = "409"
	// tooMany answers 429 with Retry-After.
	tooMany kind = "429"
	// broken answers 500, and nothing is done.
	broken kind = "500"
	// lateTimeout answers 504, and the request is carried out.
	lateTimeout kind = "504, carried out"
	// cutBefore resets the request before anything is done.
	cutBefore kind = "cut before"
	// cutAfter resets the request when it has been carried out.
	cutAfter kind = "cut after"
	// disconnect closes the connection, with all that runs over it.
	disconnect kind = "disconnected"
)

// drawKind weights cuts after the write most: they are the ones that make a
// client guess.
func drawKind(random *rand.Rand, r Request) kind {
	kinds := []kind{tooMany, broken, lateTimeout, lateTimeout, cutBefore, cutAfter, cutAfter, cutAfter}
	if r.writes() {
		kinds = append(kinds, conflict)
	}
	// Closing a connection takes the watches along; a fifth as often as others
	// is often enough.
	if random.IntN(5*len(kinds)) < len(kinds)/2 {
		return disconnect
	}
	return kinds[random.IntN(len(kinds))]
}

func (k kind) status() metav1.Status {
	s := metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure,
		Message:  "injected: " + string(k),
	}
	switch k {
	case conflict:
		s.Code, s.Reason = http.StatusConflict, metav1.StatusReasonConflict
	case tooMany:
		s.Code, s.Reason = http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests
		s.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	case lateTimeout:
		s.Code, s.Reason = http.StatusGatewayTimeout, metav1.StatusReasonTimeout
	default:
		s.Code, s.Reason = http.StatusInternalServerError, metav1.StatusReasonInternalError
	}
	return s
}

// header returns the answer's header and body.
func (k kind) header() (http.Header, []byte) {
	header := http.Header{"Content-Type": {"application/json"}}
	if k == tooMany {
		header.Set("Retry-After", "1")
	}
	// A Status has nothing that JSON could refuse.
	body, _ := json.Marshal(k.status())
	header.Set("Content-Length", strconv.Itoa(len(body)))
	return header, body
}

// answer writes the error instead of an answer.
func (k kind) answer(w http.ResponseWriter) {
	header, body := k.header()
	maps.Copy(w.Header(), header)
	w.WriteHeader(int(k.status().Code))
	_, _ = w.Write(body)
}

// replace puts the error in the place of the API server's answer.
func (k kind) replace(answer *http.Response) {
	header, body := k.header()
	answer.StatusCode, answer.Status = int(k.status().Code), ""
	answer.Header = header
	answer.ContentLength = int64(len(body))
	answer.Body = io.NopCloser(bytes.NewReader(body))
}
