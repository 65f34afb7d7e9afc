package engine

import (
	"slices"
	"strconv"
	"strings"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/report"
)

// A fingerprint is the same for every source with the same content, in whatever
// namespace: who could read the marks of others could compare them with those
// of content of its own. So no fingerprint leaves the ledger and the
// checkpoint. What stands on workloads and in what is posted is a code over the
// source's name and its fingerprint, under a key derived for that purpose.

// sealVersion is in front of every code.
const sealVersion = "v2-"

// The purposes of derived keys.
const (
	markPurpose = "marks"
	callPurpose = "calls"
)

// seals make the codes that stand for fingerprints outside of the ledger. They
// are immutable and safe for concurrent use.
type seals struct {
	marks, calls fingerprint.Key
}

func newSeals(key fingerprint.Key) seals {
	return seals{marks: key.Derive(markPurpose), calls: key.Derive(callPurpose)}
}

// content returns the code of one source's content, or of its deletion: no two
// sources share one.
func (s seals) content(source reloader.Source, f fingerprint.Fingerprint) string {
	return sealVersion + s.marks.MAC(string(source.Kind), source.Namespace, source.Name, string(f))
}

// call returns the ID of the changes that are posted for one workload. versions
// are those of the debts' content: content that comes back is another change.
func (s seals) call(r report.Reload, debts []debt, versions []uint64) string {
	parts := make([]string, 0, 2+5*len(debts))
	parts = append(parts, r.Workload.String(), string(r.UID))
	for i, d := range debts {
		parts = append(parts, string(d.source.Kind), d.source.Namespace, d.source.Name, string(d.fingerprint), strconv.FormatUint(versions[i], 10))
	}
	return sealVersion + s.calls.MAC(parts...)
}

// marks returns what each debt leaves in the pod template. Behind the code of
// the content stands a hash of the template: going back to content that an old
// mark tells of starts pods, too, if others have changed the template in
// between.
func (e *Engine) marks(debts []debt, to target) []kind.Mark {
	template, names := shortHash(to.template), e.variables(debts, to)
	all := make([]kind.Mark, len(debts))
	at := make(map[reloader.Source]int, len(debts))
	for i, d := range debts {
		all[i] = kind.Mark{
			Source:    d.source,
			Value:     e.seals.content(d.source, d.fingerprint) + "-" + template,
			Content:   d.fingerprint,
			Container: to.container,
			Env:       names.of(d.source),
			Written:   e.ledger.writtenAt(d.source).time,
		}
		at[reloader.Source{Kind: d.source.Kind, Name: d.source.Name}] = i
	}
	placed := make([]bool, len(debts))
	for _, r := range to.references {
		i, due := at[reloader.Source{Kind: r.Kind, Name: r.Name}]
		if !due || r.Container == "" {
			continue
		}
		mark := &all[i]
		if !placed[i] && !r.Init {
			mark.Container, placed[i] = r.Container, true
		}
		if !slices.Contains(mark.UsedBy, r.Container) {
			mark.UsedBy = append(mark.UsedBy, r.Container)
		}
	}
	for i := range all {
		slices.Sort(all[i].UsedBy)
	}
	return all
}

// variables are the first names, in the alphabet, of the sources of one workload
// that share a variable.
type variables map[string]string

// variables returns those of the sources that the workload depends on, as far
// as they may share a variable with one of the debts.
func (e *Engine) variables(debts []debt, to target) variables {
	v := make(variables, len(debts)+len(to.references))
	for _, r := range to.references {
		v.add(r.Kind, r.Name)
	}
	for _, d := range debts {
		s := d.source
		v.add(s.Kind, s.Name)
		// One that is named only, and exists, is in the ledger. Of all that share
		// a variable the one with dashes alone is first in the alphabet.
		dashed := reloader.Source{Kind: s.Kind, Namespace: s.Namespace, Name: dashes(s.Name)}
		if dashed != s && e.ledger.exists(dashed) && to.policy.Decide(s.Kind, dashed.Name, nil, false).Reload {
			v.add(dashed.Kind, dashed.Name)
		}
	}
	return v
}

func (v variables) add(k reloader.SourceKind, name string) {
	variable := reloader.EnvName(k, name)
	if first, ok := v[variable]; !ok || name < first {
		v[variable] = name
	}
}

// of returns the variable of a source. Names that differ only in punctuation
// share one by the rule that today's users rely on; here the first of them in
// the alphabet keeps it, and the others get one of their own.
func (v variables) of(s reloader.Source) string {
	name := reloader.EnvName(s.Kind, s.Name)
	if first, shared := v[name]; shared && first < s.Name {
		return reloader.EnvName(s.Kind, s.Name+"-"+shortHash(s.Name))
	}
	return name
}

// dashes returns the name with every run of punctuation as one dash.
func dashes(name string) string {
	return strings.Join(strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == '-' }), "-")
}
