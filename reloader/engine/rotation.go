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
//   - A pod that changes from something else, or has just come, has the new
//     content if that was never seen. If it was, the pod lags behind.
//   - When no pod is left, nobody has the present content any more. What the
//     next one reports is the first content.
//
// So a rotation is one change, in whatever order the pods report it, and pods
// that a rollout creates change nothing. rotations do no I/O and are safe for
// concurrent use.
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
	// mounts by the name of the report, one per pod; never empty.
	mounts map[string]mount
}

// mount is what one pod has mounted, and the version of its report.
type mount struct {
	content fingerprint.Fingerprint
	version uint64
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
	c.mounts[m.name] = m.mount
	switch {
	case m.content == c.present, known && m.content == before.content:
		return false
	case known && before.content == c.present, !c.seen(m.content, m.name):
		c.turn(m.content, m.version)
		return true
	}
	return false
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
		// The newest of them counts, and the others lag behind.
		c.mounts[m.name] = m.mount
		c.turn(m.content, m.version)
		c.certain = false
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
// be news, and content that is rolled out is former when there is other since.
// Given nothing, the guess holds.
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
		if m.content != kept.Fingerprint && m.version > version && held[m.content] > kept.Version {
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

// seen reports whether content was there before a pod reported it.
func (c *rotation) seen(content fingerprint.Fingerprint, by string) bool {
	if slices.Contains(c.former, content) {
		return true
	}
	for name, m := range c.mounts {
		if name != by && m.content == content {
			return true
		}
	}
	return false
}

// turn makes content the present one.
func (c *rotation) turn(content fingerprint.Fingerprint, version uint64) {
	if content != c.present {
		c.former = slices.DeleteFunc(c.former, func(f fingerprint.Fingerprint) bool { return f == content })
		c.former = append(c.former, c.present)
		c.former = c.former[max(0, len(c.former)-maxFormer):]
	}
	c.present, c.version, c.certain = content, version, true
}
