package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/policy"
)

const (
	auto     = "reloader.stakater.com/auto"
	index    = "reloader.stakater.com/index"
	named    = "configmap.reloader.stakater.com/reload"
	pause    = "deployment.reloader.stakater.com/pause-period"
	planted  = "hunter2-planted-secret"
	failOpen = "Reloader's webhook could not read this object and let it pass unchecked"
)

// harness is a webhook behind a real TLS server, with what it logged and
// counted.
type harness struct {
	t        *testing.T
	webhook  *Webhook
	server   *httptest.Server
	registry *prometheus.Registry
	mu       sync.Mutex
	log      bytes.Buffer
}

func newHarness(t *testing.T, change func(*Options)) *harness {
	t.Helper()
	h := &harness{t: t, registry: prometheus.NewRegistry()}
	o := Options{Settings: policy.Settings{Keys: annotation.DefaultKeys()}, Metrics: h.registry, Log: h.logger()}
	if change != nil {
		change(&o)
	}
	w, err := New(o)
	require.NoError(t, err)
	h.webhook = w
	mux := http.NewServeMux()
	w.Register(mux.Handle)
	h.serve(mux)
	return h
}

func (h *harness) serve(handler http.Handler) {
	h.server = httptest.NewTLSServer(handler)
	h.t.Cleanup(h.server.Close)
}

// logger records everything, at every verbosity.
func (h *harness) logger() logr.Logger {
	return funcr.New(func(prefix, args string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.log.WriteString(prefix + " " + args + "\n")
	}, funcr.Options{Verbosity: 100})
}

func (h *harness) logged() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.String()
}

// answers returns the count of one answer of one handler.
func (h *harness) answers(handler, answer string) float64 {
	return testutil.ToFloat64(h.webhook.metrics.requests.WithLabelValues(handler, answer))
}

// failures returns how often one handler let requests pass for one cause.
func (h *harness) failures(handler, cause string) float64 {
	return testutil.ToFloat64(h.webhook.metrics.failures.WithLabelValues(handler, cause))
}

// request is an AdmissionReview in the making.
type request struct {
	operation   admissionv1.Operation // by whether there is an old object
	subresource string
	dryRun      bool
	kind        metav1.GroupVersionKind // of the object
	object, old any                     // JSON text or something to marshal
}

// send posts the review and returns the response.
func (h *harness) send(path string, r request) *admissionv1.AdmissionResponse {
	h.t.Helper()
	req := &admissionv1.AdmissionRequest{
		UID: types.UID("review-" + h.t.Name()), Kind: r.kind, SubResource: r.subresource, Operation: r.operation,
		Namespace: "shop", Name: "web", DryRun: &r.dryRun,
		Object: h.raw(r.object), OldObject: h.raw(r.old),
	}
	if req.Operation == "" {
		req.Operation = admissionv1.Create
		if r.old != nil {
			req.Operation = admissionv1.Update
		}
	}
	if req.Kind.Kind == "" {
		req.Kind = metav1.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request:  req,
	})
	require.NoError(h.t, err)
	response := h.post(path, body)
	require.Equal(h.t, req.UID, response.UID)
	return response
}

func (h *harness) raw(object any) runtime.RawExtension {
	switch o := object.(type) {
	case nil:
		return runtime.RawExtension{}
	case string:
		return runtime.RawExtension{Raw: []byte(o)}
	}
	raw, err := json.Marshal(object)
	require.NoError(h.t, err)
	return runtime.RawExtension{Raw: raw}
}

func (h *harness) post(path string, body []byte) *admissionv1.AdmissionResponse {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.server.URL+path, bytes.NewReader(body))
	require.NoError(h.t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.server.Client().Do(req)
	require.NoError(h.t, err)
	defer func() { assert.NoError(h.t, resp.Body.Close()) }()
	require.Equal(h.t, http.StatusOK, resp.StatusCode)
	var review admissionv1.AdmissionReview
	require.NoError(h.t, json.NewDecoder(resp.Body).Decode(&review))
	require.NotNil(h.t, review.Response)
	return review.Response
}

// template is a pod template that uses the ConfigMap "app" and some Secrets.
func template(secrets ...string) corev1.PodTemplateSpec {
	t := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "web", Image: "web:1",
		EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "app"},
		}}},
	}}}}
	for _, name := range secrets {
		t.Spec.Volumes = append(t.Spec.Volumes, corev1.Volume{
			Name: name, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}},
		})
	}
	return t
}

// deployment is the Deployment shop/web with these annotations.
func deployment(annotations map[string]string, change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", Annotations: maps.Clone(annotations)},
		Spec:       appsv1.DeploymentSpec{Template: template()},
	}
	for _, c := range change {
		c(d)
	}
	return d
}

func TestOptions(t *testing.T) {
	t.Parallel()
	_, err := New(Options{Mode: "loud", MaxBytes: -1})
	require.EqualError(t, err, "unknown admission mode \"loud\"\nroom for -1 bytes: use a positive number\nthe index annotation has no key: start from annotation.DefaultKeys")

	w, err := New(Options{Settings: policy.Settings{Keys: annotation.DefaultKeys()}})
	require.NoError(t, err, "everything but the keys has a default")
	assert.Equal(t, policy.ModeDefault, w.mode)

	registry := prometheus.NewRegistry()
	o := Options{Settings: policy.Settings{Keys: annotation.DefaultKeys()}, Metrics: registry}
	_, err = New(o)
	require.NoError(t, err)
	_, err = New(o)
	require.ErrorContains(t, err, "register admission metrics")
}

func TestOurOwnFaultNeverBlocks(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		handle  handler // the real one for workloads if nil
		request request
		wantLog string
	}{
		"a handler panics with something of the object": {
			handle:  func(admission.Request) (verdict, error) { panic(planted) },
			request: request{object: deployment(nil)},
			wantLog: `"error"="panic: value of type string"`,
		},
		"a handler panics in the runtime": {
			handle: func(admission.Request) (verdict, error) {
				var m map[string]int
				m["x"] = 1 //nolint:staticcheck // a panic is what is wanted
				return verdict{}, nil
			},
			request: request{object: deployment(nil)},
			wantLog: `"error"="panic: assignment to entry in nil map"`,
		},
		"a handler returns an error": {
			handle:  func(admission.Request) (verdict, error) { return verdict{}, errors.New("it broke") },
			request: request{object: deployment(nil)},
			wantLog: "it broke",
		},
		"an object that is no object": {
			request: request{object: `"` + planted + `"`},
			wantLog: "new object: decode Deployment",
		},
		"an object of another shape": {
			request: request{object: `{"metadata":{"annotations":{"` + auto + `":["` + planted + `"]}}}`},
			wantLog: "new object: decode Deployment",
		},
		"an old object of another shape": {
			request: request{object: deployment(map[string]string{pause: "x"}), old: `{"spec":{"template":"` + planted + `"}}`},
			wantLog: "old object: decode Deployment",
		},
		"no object at all": {
			request: request{},
			wantLog: "new object: decode Deployment",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, nil)
			for _, path := range []string{PathMutateWorkload, PathValidateWorkload} {
				handler := strings.TrimPrefix(path, "/")
				if tc.handle != nil {
					h.serve(h.webhook.endpoint(handler, tc.handle))
				}
				response := h.send(path, tc.request)
				assert.True(t, response.Allowed)
				assert.Equal(t, []string{failOpen}, response.Warnings)
				assert.Empty(t, response.Patch)
				assert.InDelta(t, 1, h.answers(handler, answerFailedOpen), 0)
				cause := causeError
				if strings.Contains(tc.wantLog, "panic") {
					cause = causePanic
				}
				assert.InDelta(t, 1, h.failures(handler, cause), 0)
			}
			assert.Contains(t, h.logged(), tc.wantLog)
			assert.Contains(t, h.logged(), `"namespace"="shop" "name"="web"`)
			assert.NotContains(t, h.logged(), planted)
			assert.Equal(t, strings.Contains(tc.wantLog, "panic"), strings.Contains(h.logged(), "goroutine"), "a panic comes with its stack")
		})
	}
}

func TestUnknownKindsPassSilently(t *testing.T) {
	t.Parallel()
	h := newHarness(t, nil)
	widget := request{object: deployment(nil), kind: metav1.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"}}
	for _, path := range []string{PathMutateWorkload, PathValidateWorkload, PathValidateSource} {
		response := h.send(path, widget)
		assert.True(t, response.Allowed)
		assert.Empty(t, response.Warnings)
		assert.Empty(t, response.Patch)
		assert.InDelta(t, 1, h.answers(strings.TrimPrefix(path, "/"), answerAllowed), 0)
	}
}

func TestNothingOfAnObjectIsLogged(t *testing.T) {
	t.Parallel()
	h := newHarness(t, nil)
	d := deployment(map[string]string{pause: planted, "reloader.stakater.com/" + planted: planted, named: planted + "["},
		func(d *appsv1.Deployment) {
			d.Labels = map[string]string{"label": planted}
			d.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "PASSWORD", Value: planted}}
		})
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", Annotations: map[string]string{
			auto: planted, "kubectl.kubernetes.io/last-applied-configuration": `{"data":"` + planted + `"}`,
		}},
		Data: map[string][]byte{"password": []byte(planted)}, StringData: map[string]string{"password": planted},
	}
	for _, path := range []string{PathMutateWorkload, PathValidateWorkload} {
		h.send(path, request{object: d})
		h.send(path, request{object: d, old: deployment(nil)})
	}
	response := h.send(PathValidateSource, request{object: secret, kind: metav1.GroupVersionKind{Version: "v1", Kind: "Secret"}})
	text, err := json.Marshal(response)
	require.NoError(t, err)
	assert.NotContains(t, string(text), planted, "content of a Secret is not in the answer")
	assert.Contains(t, h.logged(), "request denied")
	assert.Contains(t, h.logged(), "EntryInvalid,PausePeriodInvalid")
	assert.NotContains(t, h.logged(), planted)

	families, err := h.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		assert.NotContains(t, family.String(), planted)
	}
}

func TestMetricsFollowTheRules(t *testing.T) {
	t.Parallel()
	h := newHarness(t, nil)
	h.send(PathValidateWorkload, request{object: deployment(map[string]string{auto: "yes"})})
	h.send(PathMutateWorkload, request{object: deployment(map[string]string{auto: "true"})})
	problems, err := testutil.GatherAndLint(h.registry)
	require.NoError(t, err)
	assert.Empty(t, problems)
	require.NoError(t, testutil.GatherAndCompare(h.registry, strings.NewReader(`
# HELP reloader_admission_problems_total Problems that admission requests brought in, by reason.
# TYPE reloader_admission_problems_total counter
reloader_admission_problems_total{reason="ValueNotBoolean"} 1
# HELP reloader_admission_records_total What became of index records in admission requests.
# TYPE reloader_admission_records_total counter
reloader_admission_records_total{result="written"} 1
# HELP reloader_admission_requests_total Admission requests by handler and answer.
# TYPE reloader_admission_requests_total counter
reloader_admission_requests_total{answer="allowed",handler="mutate-workload"} 1
reloader_admission_requests_total{answer="warned",handler="validate-workload"} 1
`), "reloader_admission_requests_total", "reloader_admission_problems_total", "reloader_admission_records_total"))
}

// admissionRequest is an update as a handler gets it.
func admissionRequest(kind metav1.GroupVersionKind, object, old string) admission.Request {
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Kind: kind, Operation: admissionv1.Update, Namespace: "shop", Name: "web",
		Object: runtime.RawExtension{Raw: []byte(object)}, OldObject: runtime.RawExtension{Raw: []byte(old)},
	}}
}
