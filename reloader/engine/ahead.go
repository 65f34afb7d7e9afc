package engine

import (
	"hash/maphash"

	"k8s-reloader/reloader/record"
)

// doubts reports whether a record must not be trusted even if it fits: it was on
// the workload before there was a generation that it is for, so that nobody has
// made it for what that one has brought. It is doubted until another record comes.
// Nothing is read or written for that, however often somebody puts one there: the
// workload is read when such a generation comes. in.mu is held.
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
