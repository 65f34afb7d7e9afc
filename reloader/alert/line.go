package alert

import "slices"

// line is a bounded queue in which namespaces take turns. The zero line has no
// room. It is not safe for concurrent use.
type line struct {
	room int
	// alerts of each namespace, in the order in which they came; none is empty.
	alerts map[string][]Alert
	// turns are the namespaces in alerts, the next one first.
	turns []string
	n     int
}

// push reports whether the line was full. The newest alert of the namespace that
// has most of the places is dropped then.
func (l *line) push(a Alert) (full bool) {
	if l.alerts == nil {
		l.alerts = map[string][]Alert{}
	}
	if len(l.alerts[a.Namespace]) == 0 {
		l.turns = append(l.turns, a.Namespace)
	}
	l.alerts[a.Namespace] = append(l.alerts[a.Namespace], a)
	l.n++
	if l.n <= l.room {
		return false
	}
	most := a.Namespace
	for _, namespace := range l.turns {
		if len(l.alerts[namespace]) > len(l.alerts[most]) {
			most = namespace
		}
	}
	last := len(l.alerts[most]) - 1
	l.alerts[most][last] = Alert{}
	l.shorten(most, l.alerts[most][:last])
	return true
}

// pop takes the oldest alert of the namespace whose turn it is.
func (l *line) pop() (Alert, bool) {
	if l.n == 0 {
		return Alert{}, false
	}
	namespace := l.turns[0]
	a := l.alerts[namespace][0]
	l.turns = append(l.turns[1:], namespace)
	l.shorten(namespace, l.alerts[namespace][1:])
	return a, true
}

// shorten replaces the alerts of a namespace by all of them but one.
func (l *line) shorten(namespace string, rest []Alert) {
	l.n--
	if len(rest) > 0 {
		l.alerts[namespace] = rest
		return
	}
	delete(l.alerts, namespace)
	i := slices.Index(l.turns, namespace)
	l.turns = slices.Delete(l.turns, i, i+1)
}
