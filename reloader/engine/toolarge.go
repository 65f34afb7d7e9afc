package engine

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// tooLarge reports whether the API server has refused an object for its size:
// by its own rule for annotations, or because etcd does not take it.
func tooLarge(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	if apierrors.IsRequestEntityTooLargeError(err) {
		return true
	}
	if message := status.Status().Message; status.Status().Code == http.StatusInternalServerError {
		// What etcd says comes in its words alone.
		return strings.Contains(message, "etcdserver: request is too large") || strings.Contains(message, "trying to send message larger than max")
	}
	details := status.Status().Details
	return apierrors.IsInvalid(err) && details != nil && slices.ContainsFunc(details.Causes, func(cause metav1.StatusCause) bool {
		return cause.Type == metav1.CauseType(field.ErrorTypeTooLong) && strings.HasSuffix(cause.Field, ".annotations")
	})
}
