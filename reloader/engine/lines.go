package engine

import (
	"slices"
	"time"

	"k8s-reloader/reloader"
)

// linePatience is how long one that waits keeps its place without asking again:
// what was due to it may have been brought by somebody else meanwhile.
const linePatience = 3 * rolloutPoll

// lines are workloads that wait for a place: a line per namespace, first come
// first served, and the namespaces take turns. It is not safe for concurrent use.
type lines struct {
	// turns are the namespaces with a line, the next one first.
	turns []string
	of    map[string][]reloader.Workload
	// asked is when a workload has last asked. All those in a line are in it.
	asked map[reloader.Workload]time.Time
}

func newLines() lines {
	return lines{of: map[string][]reloader.Workload{}, asked: map[reloader.Workload]time.Time{}}
}

// join puts w at the end of its line, unless it is in it, and notes that it has
// asked.
func (l *lines) join(w reloader.Workload, now time.Time) {
	if _, waits := l.asked[w]; !waits {
		if len(l.of[w.Namespace]) == 0 {
			l.turns = append(l.turns, w.Namespace)
		}
		l.of[w.Namespace] = append(l.of[w.Namespace], w)
	}
	l.asked[w] = now
}

// call reports whether w has one of so many free places, of which no namespace
// gets more than it has room for. If so, w has left its line, and its namespace
// has had its turn.
//
// Only those that get a place before w are looked at, so that a long line costs
// nothing.
func (l *lines) call(w reloader.Workload, now time.Time, free int, room func(namespace string) int) bool {
	if free <= 0 || room(w.Namespace) <= 0 {
		return false
	}
	for place := 0; ; place++ {
		reached := false
		for turn := 0; turn < len(l.turns); turn++ {
			namespace := l.turns[turn]
			if place >= room(namespace) {
				continue
			}
			if l.skip(namespace, place, now) {
				// A place was kept for nothing: that was its turn.
				l.hadTurn(namespace)
				turn--
				continue
			}
			line := l.of[namespace]
			if place >= len(line) {
				continue
			}
			reached = true
			if line[place] == w {
				l.leave(namespace, place)
				l.hadTurn(namespace)
				return true
			}
			if free--; free == 0 {
				return false
			}
		}
		if !reached {
			return false
		}
	}
}

// skip takes those out of a line, from a place on, that have stopped asking, up
// to the first that has not, and reports whether there was one.
func (l *lines) skip(namespace string, place int, now time.Time) (skipped bool) {
	for line := l.of[namespace]; place < len(line) && now.Sub(l.asked[line[place]]) > linePatience; line = l.of[namespace] {
		l.leave(namespace, place)
		skipped = true
	}
	return skipped
}

// leave takes the one at a place out of its line.
func (l *lines) leave(namespace string, place int) {
	line := l.of[namespace]
	delete(l.asked, line[place])
	l.of[namespace] = slices.Delete(line, place, place+1)
	l.closeEmpty(namespace)
}

func (l *lines) closeEmpty(namespace string) {
	if len(l.of[namespace]) == 0 {
		delete(l.of, namespace)
		l.turns = slices.DeleteFunc(l.turns, func(n string) bool { return n == namespace })
	}
}

// hadTurn lets all other namespaces go first.
func (l *lines) hadTurn(namespace string) {
	if i := slices.Index(l.turns, namespace); i >= 0 {
		l.turns = append(slices.Delete(l.turns, i, i+1), namespace)
	}
}

// sweep forgets those that have stopped asking.
func (l *lines) sweep(now time.Time) {
	for namespace, line := range l.of {
		if now.Sub(l.asked[line[0]]) > linePatience {
			l.hadTurn(namespace)
		}
		l.of[namespace] = slices.DeleteFunc(line, func(w reloader.Workload) bool {
			gone := now.Sub(l.asked[w]) > linePatience
			if gone {
				delete(l.asked, w)
			}
			return gone
		})
		l.closeEmpty(namespace)
	}
}
