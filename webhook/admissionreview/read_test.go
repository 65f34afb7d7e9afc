package admissionreview

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"k8s-reloader/reloader/excerpt"
)

// review is the JSON of a review whose request has these members.
func review(request string) string {
	return `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u"` + request + `}}`
}

func TestRead(t *testing.T) {
	dryRun := true
	whole := admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID:         "705ab4f5-6393-11e8-b7cc-42010a800002",
			Kind:        metav1.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"},
			SubResource: "scale", Operation: admissionv1.Update, Namespace: "shop", Name: "web",
			Object:    runtime.RawExtension{Raw: []byte(`{"metadata":{"name":"web"}}`)},
			OldObject: runtime.RawExtension{Raw: []byte(`{"metadata":{"name":"old"}}`)},
		},
	}
	want := *whole.Request
	// What is not read.
	whole.Request.Resource = metav1.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	whole.Request.RequestKind = &metav1.GroupVersionKind{Kind: "Deployment"}
	whole.Request.UserInfo.Groups = []string{"system:authenticated"}
	whole.Request.Options.Raw = []byte(`{"kind":"UpdateOptions"}`)
	whole.Request.DryRun = &dryRun
	body, err := json.Marshal(whole)
	require.NoError(t, err)
	got, err := Read(body)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Same(t, &body[strings.Index(string(body), `{"metadata":{"name":"old"`)], &got.OldObject.Raw[0], "no copy")
}

func TestObjectsMayBeAnything(t *testing.T) {
	for _, object := range []string{`{}`, `[]`, `"x"`, `5`, `true`, `{"a":[{}]}`} {
		got, err := Read([]byte(review(`,"object":` + object)))
		require.NoError(t, err)
		assert.Equal(t, object, string(got.Object.Raw))
	}
	for _, none := range []string{``, `,"object":null`} {
		got, err := Read([]byte(review(none)))
		require.NoError(t, err)
		assert.Nil(t, got.Object.Raw)
	}
}

func TestReviewsThatAreNone(t *testing.T) {
	tests := map[string]struct {
		body string
		want error
	}{
		"nothing":                        {"", excerpt.ErrSyntax},
		"no JSON":                        {"hunter2", excerpt.ErrSyntax},
		"bytes":                          {strings.Repeat("\x00", 100), excerpt.ErrSyntax},
		"bytes that are no text":         {"\xff\xfe", excerpt.ErrSyntax},
		"half a review":                  {review(``)[:40], excerpt.ErrSyntax},
		"an array":                       {"[]", excerpt.ErrShape},
		"a null":                         {"null", ErrNoReview},
		"an empty object":                {"{}", ErrNoReview},
		"no request":                     {`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`, ErrNoReview},
		"no UID":                         {strings.Replace(review(``), `"uid":"u"`, ``, 1), ErrNoReview},
		"a number for a UID":             {strings.Replace(review(``), `"u"`, `5`, 1), ErrNoReview},
		"another version":                {strings.Replace(review(``), `/v1"`, `/v1beta1"`, 1), ErrNoReview},
		"another kind":                   {strings.Replace(review(``), `"AdmissionReview"`, `"ConversionReview"`, 1), ErrNoReview},
		"a string for a request":         {`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":"hunter2"}`, excerpt.ErrShape},
		"an array for a name":            {review(`,"name":["hunter2"]`), excerpt.ErrShape},
		"a string for a kind":            {review(`,"kind":"hunter2"`), excerpt.ErrShape},
		"two objects":                    {review(`,"object":{},"object":{}`), excerpt.ErrDuplicate},
		"two namespaces":                 {review(`,"namespace":"a","namespace":"b"`), excerpt.ErrDuplicate},
		"a long name":                    {review(`,"name":"` + strings.Repeat("x", 254) + `"`), ErrNoReview},
		"a very long name":               {review(`,"name":"` + strings.Repeat("x", 1<<20) + `"`), excerpt.ErrTooMuch},
		"a name with control characters": {review(`,"name":"a\u001b[31m"`), ErrNoReview},
		"a name with a line break":       {review(`,"namespace":"a\nhunter2"`), ErrNoReview},
		"a kind in the other direction":  {review(`,"kind":{"kind":"\u202egol"}`), ErrNoReview},
		"half a surrogate":               {review(`,"kind":{"group":"\ud800"}`), excerpt.ErrSyntax},
		"deep nesting":                   {review(`,"object":` + strings.Repeat(`{"a":`, 200_000) + "1" + strings.Repeat("}", 200_000)), excerpt.ErrSyntax},
		"something after it":             {review(``) + "{}", excerpt.ErrSyntax},
		"a number that is none":          {review(`,"object":01`), excerpt.ErrSyntax},
		"a comma too many":               {review(`,`), excerpt.ErrSyntax},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Read([]byte(tc.body))
			require.ErrorIs(t, err, tc.want)
			assert.NotContains(t, err.Error(), "hunter2")
			assert.Empty(t, got)
		})
	}
}

// FuzzRead: what is read is what the API server has sent.
func FuzzRead(f *testing.F) {
	f.Add([]byte(review(`,"kind":{"group":"apps","version":"v1","kind":"Deployment"},"operation":"CREATE","namespace":"a","name":"b","object":{"a":[1]},"oldObject":null`)))
	f.Add([]byte(review(`,"name":"a\u0062"`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := Read(body)
		if err != nil {
			assert.NotContains(t, err.Error(), "\n")
			return
		}
		require.NotEmpty(t, got.UID)
		for _, raw := range [][]byte{got.Object.Raw, got.OldObject.Raw} {
			require.True(t, raw == nil || json.Valid(raw))
		}
		for _, text := range []string{string(got.UID), got.Name, got.Namespace, got.Kind.Kind, string(got.Operation)} {
			require.LessOrEqual(t, len(text), maxText)
			require.NotContains(t, text, "\n")
		}
	})
}
