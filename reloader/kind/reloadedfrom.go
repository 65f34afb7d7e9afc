package kind

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/pattern"
)

// reloadedFrom is the value of the last-reloaded-from annotation. The first
// source has the place that today's readers know; Also holds the others that
// changed with it.
type reloadedFrom struct {
	Type          string         `json:"type"`
	Name          string         `json:"name"`
	Namespace     string         `json:"namespace"`
	Hash          string         `json:"hash"`
	ContainerRefs []string       `json:"containerRefs"`
	Also          []reloadedFrom `json:"also,omitempty"`
	// More is how many sources are not named, since all annotations of an object
	// share 256 KiB; Digest stands for all of the change then.
	More   int    `json:"more,omitempty"`
	Digest string `json:"digest,omitempty"`
}

const (
	// maxText bounds what the annotation names, in bytes.
	maxText = 16 << 10
	// maxRemembered bounds the sources of which a workload's metadata tell.
	maxRemembered = 50
	// maxRefs bounds the containers that are named per source.
	maxRefs = 20
	// maxRead bounds the text that is read: no object has larger annotations.
	maxRead = 256 << 10
	// maxObjects bounds the entries that are read: so many sources do not fit
	// into maxRead, but empty entries would, at fifty times their length in memory.
	maxObjects = 4_000
	// maxHash bounds the hash of an entry that is kept.
	maxHash = 128
)

// entryOf returns what the annotation says of one mark.
func entryOf(m Mark) reloadedFrom {
	return reloadedFrom{
		Type:          strings.ToUpper(string(m.Source.Kind)),
		Name:          m.Source.Name,
		Namespace:     m.Source.Namespace,
		Hash:          m.Value,
		ContainerRefs: append([]string{}, m.UsedBy[:min(len(m.UsedBy), maxRefs)]...),
	}
}

// size of the entry in the annotation.
func (f reloadedFrom) size() int {
	// Texts and lists of texts always have a JSON form.
	text, _ := json.Marshal(f)
	return len(text) + len(",")
}

// key names the source of an entry.
func (f reloadedFrom) key() [3]string { return [3]string{f.Type, f.Namespace, f.Name} }

// digestOfAll stands for all marks of the change.
func (c Change) digestOfAll() string {
	hash := sha256.New()
	for _, m := range c.sorted() {
		fmt.Fprintln(hash, m.Source, m.Value)
	}
	return "v2-" + hex.EncodeToString(hash.Sum(nil)[:16])
}

// listed returns what the annotation says of the marks, the first of them as
// far as they fit.
func (c Change) listed() (entries []reloadedFrom, size int) {
	for _, m := range c.sorted() {
		entry := entryOf(m)
		if size += entry.size(); len(entries) > 0 && size > maxText {
			break
		}
		entries = append(entries, entry)
	}
	return entries, size
}

// text returns the annotation that names these entries, those of the change
// first, of which there are named.
func (c Change) text(entries []reloadedFrom, named int) (string, error) {
	var value any = struct {
		Digest string `json:"digest"`
	}{c.digestOfAll()}
	if !c.Compact {
		first := entries[0]
		first.Also = entries[1:]
		if first.More = len(c.Marks) - named; first.More > 0 {
			first.Digest = c.digestOfAll()
		}
		value = first
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", c.Keys.LastReloadedFrom, err)
	}
	return string(text), nil
}

// reloadedFromText returns the value of the last-reloaded-from annotation of a
// template. The same change gives the same text.
func (c Change) reloadedFromText() (string, error) {
	entries, _ := c.listed()
	return c.text(entries, len(entries))
}

// remember returns what the metadata of a workload say of its reloads once c
// has been made, given what they say now: the newest mark of each source, those
// of c first. done is true if they say so already. What cannot be read counts
// as nothing.
func (c Change) remember(text string) (remembered string, done bool, err error) {
	old, digest := readReloadedFrom(text)
	made := make(map[[3]string]string, len(c.Marks))
	for _, m := range c.Marks {
		made[entryOf(m).key()] = m.Value
	}
	entries, size := c.listed()
	named, have := len(entries), 0
	for _, f := range old {
		value, same := made[f.key()]
		if same && value == f.Hash {
			have++
		}
		if same || len(entries) >= maxRemembered {
			continue
		}
		if size += f.size(); size > maxText {
			break
		}
		entries = append(entries, f)
	}
	remembered, err = c.text(entries, named)
	return remembered, have == len(made) || digest == c.digestOfAll(), err
}

// Remembers returns the patch that tells, on the metadata of the workload m,
// that the change has been made; an empty Body if they say so already.
func (c Change) Remembers(m *Manifest) (Patch, error) {
	from, done, err := c.remember(m.Meta.Annotations[c.Keys.LastReloadedFrom])
	if err != nil || done {
		return Patch{}, err
	}
	p := object{Metadata: metadata{UID: c.UID, Annotations: map[string]*string{c.Keys.LastReloadedFrom: &from}}}
	return p.encode(types.MergePatchType)
}

// readReloadedFrom reads an annotation that anyone may have written. Of each
// source the first entry counts, and an entry that names none does not.
func readReloadedFrom(text string) (entries []reloadedFrom, digest string) {
	var first reloadedFrom
	if len(text) > maxRead || strings.Count(text, "{") > maxObjects || json.Unmarshal([]byte(text), &first) != nil {
		return nil, ""
	}
	seen := map[[3]string]bool{}
	for _, f := range append([]reloadedFrom{first}, first.Also...) {
		if seen[f.key()] || !f.sound() {
			continue
		}
		seen[f.key()] = true
		f.ContainerRefs = slices.DeleteFunc(append([]string{}, f.ContainerRefs[:min(len(f.ContainerRefs), maxRefs)]...), func(name string) bool {
			return len(content.IsDNS1123Label(name)) > 0
		})
		f.Also, f.More, f.Digest = nil, 0, ""
		entries = append(entries, f)
	}
	return entries, first.Digest
}

// sound reports whether the entry can be one of ours: it names a source, and its
// hash has the letters of one.
func (f reloadedFrom) sound() bool {
	known := slices.ContainsFunc(reloader.SourceKinds(), func(k reloader.SourceKind) bool { return strings.ToUpper(string(k)) == f.Type })
	return known && len(f.Hash) <= maxHash && strings.Trim(f.Hash, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" &&
		pattern.ValidName(f.Name) && len(content.IsDNS1123Label(f.Namespace)) == 0
}
