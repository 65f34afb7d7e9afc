package history

import (
	"cmp"
	"maps"
	"slices"

	"k8s-reloader/reloader"
)

// Story is what has happened, in the order of the revisions. It is not safe
// for concurrent use.
type Story struct {
	Workloads map[reloader.Workload][]Template
	Sources   map[reloader.Source][]Version
	// Revision of the newest entry.
	Revision int64
	// entries counts versions, those included that changed nothing of interest.
	entries int
}

func newStory() *Story {
	return &Story{Workloads: map[reloader.Workload][]Template{}, Sources: map[reloader.Source][]Version{}}
}

func (s *Story) enterSource(of reloader.Source, v Version) {
	versions := s.Sources[of]
	if len(versions) > 0 && versions[len(versions)-1].Content == v.Content {
		return
	}
	s.Sources[of] = append(versions, v)
	s.Revision = v.Revision
	s.entries++
}

func (s *Story) enterWorkload(w reloader.Workload, t Template) {
	templates := s.Workloads[w]
	if n := len(templates); n > 0 && templates[n-1].sameTemplate(t) {
		// Opting in and out is no change of the template.
		templates[n-1].OptedIn = t.OptedIn
		return
	}
	s.Workloads[w] = append(templates, t)
	s.Revision = t.Revision
	s.entries++
}

// last is the newest template of a workload, nil if there was none.
func (s *Story) last(w reloader.Workload) *Template {
	if templates := s.Workloads[w]; len(templates) > 0 {
		return &templates[len(templates)-1]
	}
	return nil
}

// Reloads returns the templates that reloads have made after that revision.
func (s *Story) Reloads(w reloader.Workload, after int64) []Template {
	var reloads []Template
	for _, t := range s.Workloads[w] {
		if t.Revision > after && t.ByReload() {
			reloads = append(reloads, t)
		}
	}
	return reloads
}

// Reloaded counts the workloads that have been reloaded after that revision.
func (s *Story) Reloaded(after int64) int {
	count := 0
	for _, templates := range s.Workloads {
		if last := templates[len(templates)-1]; last.Revision > after && slices.ContainsFunc(templates, func(t Template) bool {
			return t.Revision > after && t.ByReload()
		}) {
			count++
		}
	}
	return count
}

func (s *Story) sortedWorkloads() []reloader.Workload {
	return slices.SortedFunc(maps.Keys(s.Workloads), func(a, b reloader.Workload) int {
		return cmp.Compare(a.String(), b.String())
	})
}
