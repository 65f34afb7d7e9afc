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
	review  *admission.Webhook
}

var (
	_ http.Handler      = (*endpoint)(nil)
	_ admission.Handler = (*endpoint)(nil)
)

func (w *Webhook) endpoint(name string, handle handler) *endpoint {
	e := &endpoint{name: name, handle: handle, log: w.log.WithValues("handler", name), metrics: w.metrics}
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
// answer without UID, which the API server treats as a failure of the webhook,
// so that failurePolicy applies.
func (e *endpoint) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	read := false
	e.review.ServeHTTP(rw, r.WithContext(context.WithValue(r.Context(), reached{}, &read)))
	if !read {
		e.metrics.requests.WithLabelValues(e.name, answerFailedOpen).Inc()
		e.log.Info("Admission review unreadable", "contentLength", r.ContentLength)
	}
}

// Handle answers one request: with a verdict, or by letting it pass.
func (e *endpoint) Handle(ctx context.Context, req admission.Request) admission.Response {
	if read, ok := ctx.Value(reached{}).(*bool); ok {
		*read = true
	}
	start := time.Now()
	v, err := e.try(req)
	e.metrics.duration.WithLabelValues(e.name).Observe(time.Since(start).Seconds())

	log := e.log.WithValues("kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name, "operation", req.Operation)
	if err != nil {
		e.metrics.requests.WithLabelValues(e.name, answerFailedOpen).Inc()
		if fault, ok := errors.AsType[*panicError](err); ok {
			log = log.WithValues("stack", string(fault.stack))
		}
		log.Error(err, "Request let pass unchecked")
		return admission.Allowed("").WithWarnings(failedOpenWarning)
	}
	switch {
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
