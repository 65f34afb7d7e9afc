package webhook

import (
	"context"
	"errors"
	"fmt"
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
	name    string
	handle  handler
	log     logr.Logger
	metrics *metrics
	room    *room
	review  *admission.Webhook
}

var (
	_ http.Handler      = (*endpoint)(nil)
	_ admission.Handler = (*endpoint)(nil)
)

func (w *Webhook) endpoint(name string, handle handler) *endpoint {
	e := &endpoint{name: name, handle: handle, log: w.log.WithValues("handler", name), metrics: w.metrics, room: w.room}
	e.review = &admission.Webhook{
		Handler: e,
		// controller-runtime logs answers, and with them annotation values,
		// when the level is high enough. Ours say all that is needed.
		LogConstructor: func(logr.Logger, *admission.Request) logr.Logger { return logr.Discard() },
	}
	return e
}

// reached is the context key of a flag that tells a review that came in from
// one that could not be read.
type reached struct{}

// ServeHTTP answers one AdmissionReview. One that cannot be read gets an
// answer without UID, and one for which there is no room a status that is no
// answer. The API server treats both as a failure of the webhook, so that
// failurePolicy applies: it lets the request pass.
func (e *endpoint) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	start := time.Now()
	defer func() { e.metrics.duration.WithLabelValues(e.name).Observe(time.Since(start).Seconds()) }()
	leave, err := e.room.enter(rw, r)
	if err != nil {
		cause, status := causeOverloaded, http.StatusServiceUnavailable
		if errors.Is(err, errTooLarge) {
			cause, status = causeUnreadable, http.StatusRequestEntityTooLarge
		}
		e.metrics.failedOpen(e.name, cause)
		e.log.Info("Admission review not taken", "why", err.Error(), "contentLength", r.ContentLength)
		http.Error(rw, err.Error(), status)
		return
	}
	defer leave()
	read := false
	e.review.ServeHTTP(rw, r.WithContext(context.WithValue(r.Context(), reached{}, &read)))
	if !read {
		e.metrics.failedOpen(e.name, causeUnreadable)
		e.log.Info("Admission review unreadable", "contentLength", r.ContentLength)
	}
}

// Handle answers one request: with a verdict, or by letting it pass.
func (e *endpoint) Handle(ctx context.Context, req admission.Request) admission.Response {
	if read, ok := ctx.Value(reached{}).(*bool); ok {
		*read = true
	}
	v, err := e.try(req)

	log := e.log.WithValues("kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name, "operation", req.Operation)
	switch {
	case errors.Is(err, errKind):
		// A rule may name kinds that a newer version of us knows.
		e.metrics.requests.WithLabelValues(e.name, answerAllowed).Inc()
		log.V(1).Info("Request of an unknown kind let pass")
		return admission.Allowed("")
	case err != nil:
		cause := causeError
		if fault, ok := errors.AsType[*panicError](err); ok {
			cause = causePanic
			log = log.WithValues("stack", string(fault.stack))
		}
		e.metrics.failedOpen(e.name, cause)
		log.Error(err, "Request let pass unchecked")
		return admission.Allowed("").WithWarnings(failedOpenWarning)
	case len(v.Denied) > 0:
		e.metrics.requests.WithLabelValues(e.name, answerDenied).Inc()
		log.Info("Request denied", "reasons", reasons(v.Denied))
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

// Error returns what is known of the panic, without its stack.
func (e *panicError) Error() string { return "panic: " + e.cause }

// describe tells what a panic was about. Only the runtime's own errors are
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
