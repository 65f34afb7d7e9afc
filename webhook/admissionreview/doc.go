// Package admissionreview reads AdmissionReviews. It owns what of a review is
// read at all, and how much of it: whoever reaches the webhook may send one, and
// decoding one into Kubernetes' types takes hundreds of times its size.
//
// The objects of a review are left as they are, see kind.Kind.Excerpt; answers
// are controller-runtime's.
package admissionreview
