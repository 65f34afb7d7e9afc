package policy

import (
	"time"

	"k8s-reloader/reloader/annotation"
)

// PausePeriod returns the pause period that a Deployment's metadata ask for;
// false if they ask for none, or for one that cannot be used.
func PausePeriod(metadata map[string]string, k annotation.Keys) (time.Duration, bool) {
	value, ok := metadata[k.PausePeriod]
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(value)
	return d, err == nil && d > 0
}
