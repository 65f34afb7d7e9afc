package kind

import (
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/utils/ptr"
)

const (
	// maxLabel is how long a Job's name may be, which is a label of its pods, and
	// how long a pod's host name may be.
	maxLabel = 63
	// podSuffix is how much the API server appends to the name of a pod, a dash
	// included.
	podSuffix = 6
)

// jobName returns NAME-SUFFIX as the name of a Job with that spec, with NAME cut
// so that its pods can have the whole of it in their names: NAME-SUFFIX-xxxxx, or
// NAME-SUFFIX-INDEX-xxxxx. The API server refuses an Indexed Job whose last pod
// has no host name, NAME-SUFFIX-INDEX; see validateJobObjectMeta and
// ValidateJob in k8s.io/kubernetes/pkg/apis/batch/validation.
func jobName(name, suffix string, spec *batchv1.JobSpec) string {
	room := maxLabel - podSuffix - len(suffix) - 1
	if ptr.Deref(spec.CompletionMode, "") == batchv1.IndexedCompletion {
		last := max(0, ptr.Deref(spec.Completions, 1)-1)
		room -= 1 + len(strconv.Itoa(int(last)))
		// A host name has no dots, other than a Job's name.
		name = strings.ReplaceAll(name, ".", "-")
	}
	if len(name) > room {
		name = strings.TrimRight(name[:room], "-.")
	}
	return name + "-" + suffix
}
