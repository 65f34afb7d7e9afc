// Package admissionreview reads AdmissionReviews. It owns which fields of a review
// are read, and their size limits: any client of the webhook may send one, and
// decoding into Kubernetes' types can take hundreds of times its size.
//
// The objects in a review are not decoded here, see kind.Kind.Excerpt. Answers are
// types of controller-runtime.
package admissionreview
