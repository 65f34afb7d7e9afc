package policy

import (
	"time"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// MaxWindow is the longest coalescing window: a change does not wait longer
// than that.
const MaxWindow = time.Hour

// Window returns the coalescing window that a workload's metadata ask for;
// false if they ask for none, or for one that cannot be used.
func Window(metadata map[string]string, k annotation.Keys) (time.Duration, bool) {
	value, ok := metadata[k.CoalesceWindow]
	if !ok {
		return 0, false
	}
	return parseWindow(value)
}

func parseWindow(value string) (time.Duration, bool) {
	d, err := time.ParseDuration(value)
	return d, err == nil && d >= 0 && d <= MaxWindow
}

func (j *judge) coalesceWindow(p place, kind reloader.WorkloadKind) {
	key := j.Keys.CoalesceWindow
	v, ok := p.annotations[key]
	if !ok {
		return
	}
	if p.template {
		j.add(reloader.Doubtful, reloader.ReasonKeyMisplaced, p.field, key, p.key(key),
			fixed(" does nothing: move it to the "+string(kind)+"'s metadata"))
		return
	}
	if _, usable := parseWindow(v); !usable {
		j.add(reloader.Broken, reloader.ReasonWindowInvalid, p.field, key, raw(key), fixed(" "), quoted(v),
			fixed(` is not a duration from 0s to 1h: write one such as "5s"`))
	}
}
