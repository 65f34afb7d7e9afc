package admissionreview

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader/excerpt"
)

// MaxBytes is the length of the largest review that is real. API servers take
// objects of up to 3 MiB; a review of an update holds two of them, and the rest
// of it needs far less than 1 MiB.
const MaxBytes = 7 << 20

// ErrNoReview is wrapped by the errors of Read about a text that is JSON, but
// no review that could be answered.
var ErrNoReview = errors.New("not an AdmissionReview of admission.k8s.io/v1")

// maxText bounds each string that is read, and with it the text of a review that can
// reach the logs. No name of an object, kind or group is longer.
const maxText = 253

// header holds the fields of a review that are read, apart from the objects.
type header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Request    struct {
		UID         string                  `json:"uid"`
		Kind        metav1.GroupVersionKind `json:"kind"`
		SubResource string                  `json:"subResource"`
		Operation   string                  `json:"operation"`
		Namespace   string                  `json:"namespace"`
		Name        string                  `json:"name"`
	} `json:"request"`
}

// Read returns the request of the review that body holds, in one pass over it:
// UID, Kind, SubResource, Operation, Namespace and Name; and Object and OldObject
// as they stand there, of any kind of JSON value, without a copy. Their Raw is
// nil if they are not there. The other fields are not read.
//
// The error never quotes the body. It wraps ErrNoReview, or one of package
// excerpt.
func Read(body []byte) (admissionv1.AdmissionRequest, error) {
	var none admissionv1.AdmissionRequest
	taken, err := excerpt.Take(body, schema(), 16*maxText)
	if err != nil {
		return none, fmt.Errorf("read review: %w", err)
	}
	var h header
	if json.Unmarshal(taken.JSON, &h) != nil {
		return none, ErrNoReview // It would quote a value of the wrong type.
	}
	r := h.Request
	if h.APIVersion != admissionv1.SchemeGroupVersion.String() || h.Kind != "AdmissionReview" || r.UID == "" {
		return none, ErrNoReview
	}
	for _, text := range []string{r.UID, r.Kind.Group, r.Kind.Version, r.Kind.Kind, r.SubResource, r.Operation, r.Namespace, r.Name} {
		if len(text) > maxText || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) {
			return none, ErrNoReview
		}
	}
	return admissionv1.AdmissionRequest{
		UID:         types.UID(r.UID),
		Kind:        r.Kind,
		SubResource: r.SubResource,
		Operation:   admissionv1.Operation(r.Operation),
		Namespace:   r.Namespace,
		Name:        r.Name,
		Object:      runtime.RawExtension{Raw: taken.Kept["request.object"]},
		OldObject:   runtime.RawExtension{Raw: taken.Kept["request.oldObject"]},
	}, nil
}

func schema() excerpt.Field {
	return excerpt.Field{Members: []excerpt.Member{
		excerpt.Scalar("apiVersion"),
		excerpt.Scalar("kind"),
		excerpt.Object("request",
			excerpt.Scalar("uid"),
			excerpt.Object("kind", excerpt.Scalar("group"), excerpt.Scalar("version"), excerpt.Scalar("kind")),
			excerpt.Scalar("subResource"),
			excerpt.Scalar("operation"),
			excerpt.Scalar("namespace"),
			excerpt.Scalar("name"),
			excerpt.Whole("object"),
			excerpt.Whole("oldObject"),
		),
	}}
}
