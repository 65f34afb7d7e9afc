package engine

import (
	"hash/maphash"

	"k8s-reloader/reloader/record"
)

// doubts reports whether a record must not be trusted even if it fits: it was on
// the workload before its generation was, so it cannot know what that generation
// references. It is doubted until another record comes. That costs no request,
// however often such records are written: the workload is read when the generation
// comes. in.mu is held.
func (in *intake) doubts(t *tracked, o *observation) bool {
	switch {
	case record.Ahead(o.text, o.GetGeneration()):
		t.ahead = maphash.String(in.seed, o.text)
	case t.ahead == 0, o.text == "":
		return false
	case t.ahead != maphash.String(in.seed, o.text):
		t.ahead = 0
	}
	return t.ahead != 0
}
