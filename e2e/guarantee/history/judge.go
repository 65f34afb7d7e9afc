package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s-reloader/reloader"
)

// Verdict is what was wrong with one workload.
type Verdict string

// The verdicts.
const (
	// Lost: the workload's pods started with content that is not the newest.
	Lost Verdict = "lost"
	// Extra: a reload although the pods had the content already.
	Extra Verdict = "extra"
	// Split: a reload for what was there already when the reload before it was
	// made, which did not know yet. Both bring something new, but one would have
	// done.
	Split Verdict = "split"
	// Gap: an extra reload of a workload that came, or got another template, while
	// watches could not go on: the engine knows no more than that this was after the
	// last event of before, and in doubt it reloads.
	Gap Verdict = "gap"
	// Foreign: a reload for something that the workload does not depend on, or
	// of one that did not opt in.
	Foreign Verdict = "foreign"
)

// Finding is one thing that should not have happened. Doubtful ones are those
// that nobody could have known better: see Judge.
type Finding struct {
	Verdict  Verdict
	Workload reloader.Workload
	Source   reloader.Source
	Revision int64
	Doubtful bool
}

// String says it in one line.
func (f Finding) String() string {
	doubtful := ""
	if f.Doubtful {
		doubtful = " (doubtful)"
	}
	return fmt.Sprintf("%s%s: %s because of %s at revision %d", f.Verdict, doubtful, f.Workload, f.Source, f.Revision)
}

// clockTolerance is what times can tell apart when revisions cannot.
const clockTolerance = 6 * time.Second

// crossing is how long news of a write may take to the engine, on a machine that
// is not busy with something else; busy is how long they may take if the mark
// itself tells that they had not come.
const (
	crossing = 250 * time.Millisecond
	busy     = 2 * time.Second
)

// Judge judges a story that has come to its end: everything is settled. It
// uses one order, that of the revisions. Pods have the content that was there
// when their template was made, or, if there was none, the first that came:
// they waited for it.
//
//   - Lost: the newest content is another than that.
//   - Extra: a reload for a source that had one and the same content from the
//     template before until the reload.
//   - Split: the same, but the template before was made by a reload that did not
//     bring this content, or by others so shortly before that the two have
//     crossed on their way.
//
// An engine that was not there knows of a change of the template by others only
// the time, to the second. A finding is doubtful if the content changed within
// clockTolerance of such a change, and after that came one of the absences. So is
// a reload that an engine repeats right after its start, if the first one has
// crossed with a change of the template by others: its mark tells of the template
// before.
func (s *Story) Judge(absences Absences) []Finding {
	j := judge{story: s, absences: absences, variables: map[string]map[string]reloader.Source{}}
	for source := range s.Sources {
		names := j.variables[source.Namespace]
		if names == nil {
			names = map[string]reloader.Source{}
			j.variables[source.Namespace] = names
		}
		names[reloader.EnvName(source.Kind, source.Name)] = source
	}
	var findings []Finding
	for _, w := range s.sortedWorkloads() {
		findings = append(findings, j.workload(w)...)
	}
	return findings
}

// Absences are the moments at which an engine began to look again after it had
// not seen what happened.
type Absences struct {
	// Starts of a process, which knows only what was kept.
	Starts []time.Time
	// Lists after a watch could not go on. The engine knows what was there
	// before, and when in doubt it reloads: nothing may be lost.
	Lists []time.Time
}

type judge struct {
	story    *Story
	absences Absences
	// variables are the sources by the names of their marks, by namespace.
	variables map[string]map[string]reloader.Source
}

func (j *judge) workload(w reloader.Workload) []Finding {
	var findings []Finding
	templates := j.story.Workloads[w]
	for i := 1; i < len(templates); i++ {
		if templates[i].ByReload() && !templates[i-1].Gone && templates[i].UID == templates[i-1].UID {
			found := j.reload(w, templates[i-1], templates[i])
			if len(found) > 0 && found[0].Verdict == Extra && i > 1 && j.repeated(templates[i-2], templates[i-1], templates[i]) {
				found[0].Doubtful = true
			}
			findings = append(findings, found...)
		}
	}
	last := templates[len(templates)-1]
	if last.Gone || !last.OptedIn {
		return findings
	}
	for _, source := range last.Sources {
		versions := j.story.Sources[source]
		if len(versions) == 0 {
			continue
		}
		newest := versions[len(versions)-1]
		if newest.Content == "" || contentFor(versions, last.Revision) == newest.Content {
			continue
		}
		findings = append(findings, Finding{Lost, w, source, newest.Revision, j.doubtful(last, source, j.absences.Starts)})
	}
	return findings
}

// reload judges the step from one template to the next.
func (j *judge) reload(w reloader.Workload, before, after Template) []Finding {
	var changed []string
	for name, mark := range after.Marks {
		if before.Marks[name] != mark {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	var extra []Finding
	for _, name := range changed {
		source, ok := j.variables[w.Namespace][name]
		if !ok || !slices.Contains(before.Sources, source) || !before.OptedIn {
			return []Finding{{Foreign, w, source, after.Revision, false}}
		}
		if !j.had(before, after, source) {
			// One source that has changed is reason enough for a reload.
			return nil
		}
		verdict := Extra
		took := after.Seen.Sub(before.Seen)
		crossed := !before.ByReload() && (took < crossing || took < busy && rest(before.Marks[name]) == rest(after.Marks[name]))
		if crossed || before.ByReload() && Fingerprint(before.Marks[name]) != Fingerprint(after.Marks[name]) {
			verdict = Split
		}
		doubtful := j.doubtful(before, source, slices.Concat(j.absences.Starts, j.absences.Lists))
		if verdict == Extra && !doubtful && j.inGap(before, source) {
			verdict = Gap
		}
		extra = append(extra, Finding{verdict, w, source, after.Revision, doubtful})
	}
	return extra[:min(len(extra), 1)]
}

// repeated reports whether again is the reload first, repeated by an engine that
// started in between and could not know of it, because others changed the
// template right before.
func (j *judge) repeated(others, first, again Template) bool {
	if others.ByReload() || !first.ByReload() || first.Seen.Sub(others.Seen) >= busy {
		return false
	}
	for name, mark := range again.Marks {
		if Fingerprint(first.Marks[name]) != Fingerprint(mark) {
			return false
		}
	}
	return slices.ContainsFunc(j.absences.Starts, func(start time.Time) bool {
		return start.After(first.Seen) && start.Before(again.Seen)
	})
}

// had reports whether the pods of before had the content that after brought.
func (j *judge) had(before, after Template, source reloader.Source) bool {
	versions := j.story.Sources[source]
	content := at(versions, before.Revision)
	for _, v := range versions {
		if v.Revision > before.Revision && v.Revision <= after.Revision && v.Content != "" && v.Content != content {
			return false
		}
	}
	return content != ""
}

// doubtful reports whether only an engine that was there could have known.
func (j *judge) doubtful(t Template, source reloader.Source, absences []time.Time) bool {
	if t.ByReload() || !slices.ContainsFunc(absences, func(back time.Time) bool { return back.After(t.Seen) }) {
		return false
	}
	return slices.ContainsFunc(j.story.Sources[source], func(v Version) bool {
		return v.Seen.Sub(t.Seen).Abs() < clockTolerance
	})
}

// longestGap is how long a feed may wait for its next list, and some time for that.
const longestGap = 30 * time.Second

// inGap reports whether a template that an engine has found in a list, after its watch
// could not go on, may be older than the last change of a source: all that the engine
// knows is that it was made after the last event of before.
func (j *judge) inGap(t Template, source reloader.Source) bool {
	if t.ByReload() || !slices.ContainsFunc(j.absences.Lists, func(back time.Time) bool { return back.After(t.Seen) }) {
		return false
	}
	return slices.ContainsFunc(j.story.Sources[source], func(v Version) bool {
		before := t.Seen.Sub(v.Seen)
		return before >= 0 && before < longestGap
	})
}

// at is the content of a source at that revision.
func at(versions []Version, revision int64) Content {
	i, found := slices.BinarySearchFunc(versions, revision, func(v Version, r int64) int {
		return cmp.Compare(v.Revision, r)
	})
	if found {
		return versions[i].Content
	}
	if i == 0 {
		return ""
	}
	return versions[i-1].Content
}

// contentFor is what pods have whose template was made at that revision.
func contentFor(versions []Version, revision int64) Content {
	if content := at(versions, revision); content != "" {
		return content
	}
	for _, v := range versions {
		if v.Revision > revision && v.Content != "" {
			return v.Content
		}
	}
	return ""
}

// Tell tells the story of one workload and of all that it ever depended on, a
// line for each version.
func (s *Story) Tell(w reloader.Workload) string {
	type line struct {
		revision int64
		text     string
	}
	var lines []line
	sources := map[reloader.Source]bool{}
	for _, t := range s.Workloads[w] {
		text := "deleted"
		if !t.Gone {
			var marks []string
			for name, mark := range t.Marks {
				marks = append(marks, name+"="+mark)
			}
			slices.Sort(marks)
			text = fmt.Sprintf("template %x by %q, opted in %t, marks %v", t.Rest[:min(4, len(t.Rest))], t.By, t.OptedIn, marks)
		}
		lines = append(lines, line{t.Revision, fmt.Sprintf("%s  %s: %s", t.Seen.Format("15:04:05.000"), w, text)})
		for _, source := range t.Sources {
			sources[source] = true
		}
	}
	for source := range sources {
		for _, v := range s.Sources[source] {
			text := "gone"
			if v.Content != "" {
				text = fmt.Sprintf("content %x", string(v.Content)[:min(4, len(v.Content))])
			}
			lines = append(lines, line{v.Revision, fmt.Sprintf("%s  %s: %s", v.Seen.Format("15:04:05.000"), source, text)})
		}
	}
	slices.SortFunc(lines, func(a, b line) int { return cmp.Compare(a.revision, b.revision) })
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%8d  %s\n", l.revision, l.text)
	}
	return b.String()
}

// Report is for humans: every finding, at most twenty, and the story of the
// first workload that has one.
func (s *Story) Report(findings []Finding) string {
	if len(findings) == 0 {
		return ""
	}
	var b strings.Builder
	for i, f := range findings {
		if i == 20 {
			fmt.Fprintf(&b, "and %d more\n", len(findings)-i)
			break
		}
		fmt.Fprintln(&b, f)
	}
	fmt.Fprintf(&b, "the story of the first:\n%s", s.Tell(findings[0].Workload))
	return b.String()
}

// SameMarks compares the fingerprints that the last marks hold: workloads that
// share a source have the same one, if they have any. It describes the first
// difference.
func (s *Story) SameMarks() error {
	type holder struct {
		workload    reloader.Workload
		fingerprint string
	}
	first := map[string]holder{}
	for _, w := range s.sortedWorkloads() {
		templates := s.Workloads[w]
		for name, mark := range templates[len(templates)-1].Marks {
			key := w.Namespace + " " + name
			other, known := first[key]
			switch {
			case !known:
				first[key] = holder{w, Fingerprint(mark)}
			case other.fingerprint != Fingerprint(mark):
				return fmt.Errorf("%s has %s of %s, %s has %s", w, mark, name, other.workload, other.fingerprint)
			}
		}
	}
	return nil
}
