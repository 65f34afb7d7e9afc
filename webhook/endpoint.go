package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/webhook/admissionreview"
	"k8s-reloader/webhook/room"
)

// failedOpenWarning is what people read when a fault of ours let them pass.
const failedOpenWarning = "Reloader's webhook could not read this object and let it pass unchecked"

// verdict is what a handler found out: a patch, or what policy says.
type verdict struct {
	policy.Verdict
	// patch is a JSON patch; nil changes nothing.
	patch []byte
}

// handler works out the verdict on one request. It may fail or panic: the
// endpoint around it lets the request pass then.
type handler func(admission.Request) (verdict, error)

// endpoint serves one handler. It keeps every fault from blocking anyone,
// counts, and logs.
type endpoint struct {
	name     string
	handle   handler
	log      logr.Logger
	metrics  *metrics
	arrivals *arrivals
}

var (
	_ http.Handler      = (*endpoint)(nil)
	_ admission.Handler = (*endpoint)(nil)
)

func (w *Webhook) endpoint(name string, handle handler) *endpoint {
	return &endpoint{name: name, handle: handle, log: w.log.WithValues("handler", name), metrics: w.metrics, arrivals: w.arrivals}
}

// ServeHTTP answers one AdmissionReview. A request that is not a review, or for
// which there is no memory, gets an HTTP error. The API server treats that as a
// failure of the webhook, and failurePolicy Ignore admits the object.
func (e *endpoint) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	start := time.Now()
	defer func() { e.metrics.duration.WithLabelValues(e.name).Observe(time.Since(start).Seconds()) }()
	body, leave, err := e.receive(rw, r)
	defer leave()
	if err != nil {
		e.refuse(rw, r, err)
		return
	}
	request, err := admissionreview.Read(body)
	if err != nil {
		e.refuse(rw, r, err)
		return
	}
	req := admission.Request{AdmissionRequest: request}
	response := e.Handle(r.Context(), req)
	if err := response.Complete(req); err != nil {
		e.log.Error(err, "Answer not complete")
	}
	review := admissionv1.AdmissionReview{Response: &response.AdmissionResponse}
	review.SetGroupVersionKind(admissionv1.SchemeGroupVersion.WithKind("AdmissionReview"))
	rw.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(rw).Encode(review); err != nil {
		e.log.V(1).Info("Answer not taken", "why", err.Error()) // the client has gone
	}
}

var (
	errMethod      = errors.New("use POST")
	errContentType = errors.New("use Content-Type: application/json")
)

// receive returns the body of a request. The caller calls leave when the body is
// no longer used.
func (e *endpoint) receive(rw http.ResponseWriter, r *http.Request) (body []byte, leave func(), err error) {
	leave = func() {}
	if r.Method != http.MethodPost {
		return nil, leave, errMethod
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return nil, leave, errContentType
	}
	return e.arrivals.receive(rw, r)
}

// refuse answers a request that is not reviewed.
func (e *endpoint) refuse(rw http.ResponseWriter, r *http.Request, err error) {
	cause, status := causeUnreadable, http.StatusBadRequest
	switch {
	case errors.Is(err, errMethod):
		rw.Header().Set("Allow", http.MethodPost)
		status = http.StatusMethodNotAllowed
	case errors.Is(err, errContentType):
		status = http.StatusUnsupportedMediaType
	case errors.Is(err, errTooLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, errSlow):
		cause, status = causeSlow, http.StatusRequestTimeout
	case errors.Is(err, room.ErrFull), errors.Is(err, room.ErrEvicted):
		cause, status = causeOverloaded, http.StatusServiceUnavailable
	}
	e.metrics.failedOpen(e.name, cause)
	// Any client of the Service could flood the log, so only the metric is exposed by
	// default.
	e.log.V(1).Info("admission review refused", "why", err.Error(), "contentLength", r.ContentLength, "from", address(r))
	if r.ProtoMajor == 1 {
		rw.Header().Set("Connection", "close") // do not read the rest of the body
	}
	http.Error(rw, err.Error(), status)
}

// Handle answers one request with a verdict, or admits it unchecked.
func (e *endpoint) Handle(_ context.Context, req admission.Request) admission.Response {
	v, err := e.try(req)

	log := e.log.WithValues("kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name, "operation", req.Operation)
	switch {
	case errors.Is(err, errKind):
		// A rule may name kinds that a newer version of us knows.
		e.metrics.requests.WithLabelValues(e.name, answerAllowed).Inc()
		log.V(1).Info("request for an unknown kind admitted")
		return admission.Allowed("")
	case err != nil:
		cause := causeError
		if fault, ok := errors.AsType[*panicError](err); ok {
			cause = causePanic
			log = log.WithValues("stack", string(fault.stack))
		}
		e.metrics.failedOpen(e.name, cause)
		log.Error(err, "request admitted unchecked")
		return admission.Allowed("").WithWarnings(failedOpenWarning)
	case len(v.Denied) > 0:
		e.metrics.requests.WithLabelValues(e.name, answerDenied).Inc()
		log.Info("request denied", "reasons", reasons(v.Denied))
		return admission.Denied(v.Message()).WithWarnings(v.Warnings...)
	case len(v.Warnings) > 0:
		e.metrics.requests.WithLabelValues(e.name, answerWarned).Inc()
		log.V(1).Info("Request warned about", "warnings", len(v.Warnings))
	default:
		e.metrics.requests.WithLabelValues(e.name, answerAllowed).Inc()
	}
	response := admission.Allowed("").WithWarnings(v.Warnings...)
	if v.patch != nil {
		patchType := admissionv1.PatchTypeJSONPatch
		response.Patch, response.PatchType = v.patch, &patchType
	}
	return response
}

// try calls the handler and turns a panic into an error.
func (e *endpoint) try(req admission.Request) (v verdict, err error) {
	defer func() {
		if r := recover(); r != nil {
			v, err = verdict{}, &panicError{cause: describe(r), stack: debug.Stack()}
		}
	}()
	return e.handle(req)
}

// panicError is a panic of a handler.
type panicError struct {
	cause string
	stack []byte
}

var _ error = (*panicError)(nil)

// Error describes the panic, without its stack.
func (e *panicError) Error() string { return "panic: " + e.cause }

// describe returns the reason of a panic. Only the runtime's own errors are
// quoted: anything else may carry a piece of the object.
func describe(r any) string {
	if fault, ok := r.(runtime.Error); ok {
		return fault.Error()
	}
	return fmt.Sprintf("value of type %T", r)
}

// reasons lists the codes of problems for the log.
func reasons(problems []reloader.Problem) string {
	codes := make([]string, 0, len(problems))
	for _, p := range problems {
		codes = append(codes, string(p.Reason))
	}
	return strings.Join(codes, ",")
}
