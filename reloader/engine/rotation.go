package engine

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/fingerprint"
)

// rotations tell what the present content of a SecretProviderClass is, by what
// its pods report. A rotation reaches the pods one after another, so that for
// a while some report the old content and some the new:
//
//   - A pod that changes from the present content to another one has the new
//     content, even if it is one of before: then it was rolled back.
//   - A pod that changes from something else has the new content if no pod has
//     ever changed to it. If one has, the pod lags behind.
//   - A pod that comes changes nothing: it has started with what it holds. What
//     is unseen so far is ahead, and becomes the present content when a pod
//     changes to it.
//   - When no pod is left, nobody has the present content any more. What the
//     next one reports is the first content.
//
// So a rotation is one change, in whatever order the pods report it, and pods
// that a rollout creates, whoever wants it, change nothing. Without rotation in
// the driver no pod changes, and nothing is reloaded. rotations do no I/O and are
// safe for concurrent use.
type rotations struct {
	mu      sync.Mutex // guards everything below
	classes map[reloader.Source]*rotation
	// heard are the namespaces all of whose reports have been listed once; an
	// empty one is all of them.
	heard map[string]struct{}
}

// rotation is one class that pods report.
type rotation struct {
	present fingerprint.Fingerprint
	// version is that of the report that brought the present content.
	version uint64
	// certain is true once a report has changed the present content before our
	// eyes, or recall has decided; until then it is a guess from a list.
	certain bool
	// former content, oldest first.
	former []fingerprint.Fingerprint
	// ahead is what pods have come with and none has changed to, oldest first.
	ahead []fingerprint.Fingerprint
	// left is what a pod had that has changed back from it to the present
	// content, which is no change by the content alone; empty if none has.
	left fingerprint.Fingerprint
	// mounts by the name of the report, one per pod; never empty.
	mounts map[string]mount
}

// mount is what one pod has mounted, and the version of its report.
type mount struct {
	content fingerprint.Fingerprint
	version uint64
	// came is true if the pod has started with that content.
	came bool
	pod  string
	// holder tells one pod of that name from another: a StatefulSet's may take
	// over the report of the one before.
	holder uint64
}

// mountReport is a mount with its class and the name of the report.
type mountReport struct {
	class reloader.Source
	name  string
	mount
}

// maxFormer is how much former content of a class is remembered: a pod that
// lags behind further than that, and whose content no other pod has, would
// pass for a rotation.
const maxFormer = 16

func newRotations() *rotations {
	return &rotations{classes: map[reloader.Source]*rotation{}, heard: map[string]struct{}{}}
}

// reported takes in one report, as an event has brought it. It returns true if
// the class has other content now, or its first, or none.
func (r *rotations) reported(m mountReport) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report(m)
}

// report is reported. r.mu is held.
func (r *rotations) report(m mountReport) (news bool) {
	if m.content == "" {
		return r.remove(m.class, m.name)
	}
	c := r.classes[m.class]
	if c == nil {
		r.classes[m.class] = &rotation{
			present: m.content, version: m.version, mounts: map[string]mount{m.name: m.mount},
		}
		return true
	}
	before, known := c.mounts[m.name]
	replaced := known && before.holder != m.holder
	known = known && !replaced
	same := known && m.content == before.content
	if known {
		m.came = same && before.came
	}
	m.came = m.came || replaced
	c.mounts[m.name] = m.mount
	wasAhead := known && slices.Contains(c.ahead, before.content)
	switch {
	case same:
		return false
	case m.content == c.present:
		if wasAhead {
			// Rolled back before others have followed: what it had is former.
			c.left = before.content
			c.turn(before.content, m.version)
			c.turn(m.content, m.version)
		}
		return wasAhead
	case m.came:
		c.goesAhead(m.content, m.name)
		return false
	case known && before.content == c.present, wasAhead, !c.seen(m.content, m.name):
		c.turn(m.content, m.version)
		return true
	}
	return false
}

// goesAhead notes that a pod has come with some content.
func (c *rotation) goesAhead(content fingerprint.Fingerprint, by string) {
	if !slices.Contains(c.ahead, content) && !c.seen(content, by) {
		c.ahead = append(c.ahead, content)
		c.ahead = c.ahead[max(0, len(c.ahead)-maxFormer):]
	}
}

// gone notes that a report was deleted. It returns true if it was the last one
// of its class.
func (r *rotations) gone(class reloader.Source, name string) (last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.remove(class, name)
}

// remove is gone. r.mu is held.
func (r *rotations) remove(class reloader.Source, name string) (last bool) {
	c := r.classes[class]
	if c == nil {
		return false
	}
	delete(c.mounts, name)
	if len(c.mounts) > 0 {
		return false
	}
	delete(r.classes, class)
	return true
}

// listed takes in all reports of a namespace, or of all namespaces if that is
// empty, after the start or after events were missed. It returns the classes
// that have other content now, that have their first, or that no pod reports any
// more.
func (r *rotations) listed(namespace string, all []mountReport) (news []reloader.Source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard[namespace] = struct{}{}
	// The order of the writes is the one in which events would have come.
	slices.SortFunc(all, func(a, b mountReport) int { return cmp.Compare(a.version, b.version) })
	changed := map[reloader.Source]bool{}
	present := map[reloader.Source]map[string]bool{}
	var first []mountReport
	for _, m := range all {
		if m.content == "" {
			continue
		}
		if present[m.class] == nil {
			present[m.class] = map[string]bool{}
		}
		present[m.class][m.name] = true
		if c := r.classes[m.class]; c == nil {
			first = append(first, m)
		} else {
			changed[m.class] = c.restored(m) || changed[m.class]
			changed[m.class] = r.report(m) || changed[m.class]
		}
	}
	for class, c := range r.classes {
		if namespace != "" && class.Namespace != namespace {
			continue
		}
		for name := range c.mounts {
			if !present[class][name] {
				changed[class] = r.remove(class, name) || changed[class]
			}
		}
	}
	for _, m := range first {
		changed[m.class] = true
		c := r.classes[m.class]
		if c == nil {
			r.report(m)
			continue
		}
		// The newest that a pod has changed to counts, and the others lag behind.
		c.mounts[m.name] = m.mount
		switch {
		case !m.came:
			c.turn(m.content, m.version)
			c.certain = false
		case m.content != c.present:
			c.goesAhead(m.content, m.name)
		}
	}
	for class, differs := range changed {
		if differs {
			news = append(news, class)
		}
	}
	return news
}

// restored takes a version back that is older than it was: the API server has
// got its data back from a backup. r.mu is held.
func (c *rotation) restored(m mountReport) bool {
	before, known := c.mounts[m.name]
	if !known || m.version >= before.version {
		return false
	}
	c.version = min(c.version, m.version)
	return true
}

// recall decides, once, what a class holds that has only been listed so far,
// given what had been rolled out of it: reports that are older than that cannot
// be news, nor can those of pods that have started with what they hold, and
// content that is rolled out is former when there is other since. In the middle
// of a rotation pods may have come with its content by our own rollouts. Given
// nothing, the guess holds.
func (r *rotations) recall(class reloader.Source, kept checkpoint.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.classes[class]
	if c == nil || c.certain {
		return
	}
	c.certain = true
	if kept.Fingerprint == "" {
		return
	}
	held := map[fingerprint.Fingerprint]uint64{} // since when, at least
	for _, m := range c.mounts {
		since, known := held[m.content]
		if !known {
			since = math.MaxUint64
		}
		held[m.content] = min(since, m.version)
	}
	next, version, newest := kept.Fingerprint, kept.Version, uint64(0)
	for _, m := range c.mounts {
		newest = max(newest, m.version)
		moved := !m.came || kept.Version == inMotion
		if moved && m.content != kept.Fingerprint && m.version > version && held[m.content] > kept.Version {
			next, version = m.content, m.version
		}
	}
	if version == inMotion {
		version = newest
	}
	for content := range held {
		c.turn(content, version)
	}
	c.turn(kept.Fingerprint, version)
	c.turn(next, version)
	c.ahead = nil
	for _, content := range slices.SortedFunc(maps.Keys(held), func(a, b fingerprint.Fingerprint) int {
		return cmp.Compare(held[a], held[b])
	}) {
		if content != c.present && content != kept.Fingerprint && held[content] > c.version && kept.Version != inMotion {
			c.former = slices.DeleteFunc(c.former, func(f fingerprint.Fingerprint) bool { return f == content })
			c.ahead = append(c.ahead, content)
		}
	}
}

// content returns what the class holds. A class that no pod reports is absent,
// and vacant if all pods have been heard.
func (r *rotations) content(class reloader.Source) content {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.classes[class]
	if c == nil {
		_, all := r.heard[""]
		_, own := r.heard[class.Namespace]
		return content{absent: true, vacant: all || own}
	}
	return content{
		fingerprint: c.present,
		version:     c.version,
		written:     moment{version: c.version},
		// The first content is what the pods of who brought the class in have
		// reported themselves.
		untouched: true,
	}
}

// returned returns what some pods had before they went back to the present
// content; empty if none did.
func (r *rotations) returned(class reloader.Source) fingerprint.Fingerprint {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.classes[class]; c != nil {
		return c.left
	}
	return ""
}

// followed notes that what returned has said has been seen to.
func (r *rotations) followed(class reloader.Source, left fingerprint.Fingerprint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.classes[class]; c != nil && c.left == left {
		c.left = ""
	}
}

// started returns the pods that report the class, and of each whether it has
// started with the present content; nil if none has.
func (r *rotations) started(class reloader.Source) map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.classes[class]
	if c == nil {
		return nil
	}
	pods, some := make(map[string]bool, len(c.mounts)), false
	for _, m := range c.mounts {
		pods[m.pod] = m.came && m.content == c.present
		some = some || pods[m.pod]
	}
	if !some {
		return nil
	}
	return pods
}

// in returns the classes of a namespace that pods report.
func (r *rotations) in(namespace string) (classes []reloader.Source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for class := range r.classes {
		if class.Namespace == namespace {
			classes = append(classes, class)
		}
	}
	return classes
}

// all returns the classes that pods report.
func (r *rotations) all() []reloader.Source {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.classes))
}

// seen reports whether content was there before a pod reported it. What is ahead
// was not.
func (c *rotation) seen(content fingerprint.Fingerprint, by string) bool {
	switch {
	case slices.Contains(c.former, content):
		return true
	case slices.Contains(c.ahead, content):
		return false
	}
	for name, m := range c.mounts {
		if name != by && m.content == content {
			return true
		}
	}
	return false
}

// turn makes content the present one. What was ahead before it is former now; if
// it was not ahead itself, it is newer than all that was.
func (c *rotation) turn(content fingerprint.Fingerprint, version uint64) {
	if content != c.present {
		passed, rest := c.ahead, []fingerprint.Fingerprint(nil)
		if at := slices.Index(c.ahead, content); at >= 0 {
			passed, rest = c.ahead[:at], c.ahead[at+1:]
		}
		c.former = append(append(c.former, c.present), passed...)
		c.former = slices.DeleteFunc(c.former, func(f fingerprint.Fingerprint) bool { return f == content })
		c.former = c.former[max(0, len(c.former)-maxFormer):]
		c.ahead = slices.Clone(rest)
	}
	c.present, c.version, c.certain = content, version, true
}
