package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"k8s-reloader/reloader"
)

// MaxSize is the length in bytes of the longest encoded record. Annotations of
// one object share 256 KiB.
const MaxSize = 64 << 10

// maxBraces bounds the objects that are decoded. The shortest reference has 30
// bytes, so that a record of MaxSize has at most 2,200, and the patterns of a
// template may have some more; empty references, at two hundred times their length
// in memory, would be 21,000.
const maxBraces = 6_000

// maxTemplate bounds Template, which is kept of every workload. Both versions
// write 32 bytes.
const maxTemplate = 128

// The errors of Encode and Decode wrap one of these.
var (
	ErrTooLarge  = fmt.Errorf("index record is larger than %d bytes", MaxSize)
	ErrMalformed = errors.New("index record is malformed")
	ErrVersion   = errors.New("index record has another version")
)

// Encode returns r as compact JSON: the same text for the same record, which
// Decode turns into r again. An empty slice or map counts as nil.
//
// The error wraps ErrTooLarge if the text would be longer than MaxSize, and
// ErrVersion or ErrMalformed if r could not have come from New.
func (r Record) Encode() (string, error) {
	if !known(r.Version) {
		return "", fmt.Errorf("%w: %d", ErrVersion, r.Version)
	}
	w, err := toWire(r)
	if err != nil {
		return "", err
	}
	text, err := marshal(w)
	if err != nil {
		return "", err
	}
	if len(text) > MaxSize {
		return "", ErrTooLarge
	}
	return text, nil
}

// Decode returns the record that s encodes. It accepts exactly what Encode
// returns and nothing else: no white space, no unknown or repeated field, no
// other order, no kind that it does not know. It does not panic, and its work
// and memory are bounded by MaxSize, whatever s is.
//
// The error wraps ErrTooLarge, ErrVersion or ErrMalformed, and never contains
// text of s.
func Decode(s string) (Record, error) {
	if len(s) > MaxSize {
		return Record{}, ErrTooLarge
	}
	// The version first: the text of a later one may look quite different.
	if version, ok := versionOf(s); ok && !known(version) {
		return Record{}, fmt.Errorf("%w: %d", ErrVersion, version)
	}
	if strings.Count(s, "{") > maxBraces {
		return Record{}, ErrMalformed
	}
	decoder := json.NewDecoder(strings.NewReader(s))
	decoder.DisallowUnknownFields()
	var w wire
	if err := decoder.Decode(&w); err != nil {
		// The decoder's own error quotes its input.
		return Record{}, ErrMalformed
	}
	// json is lenient about case, order, repetition, white space and what
	// follows the value. None of it survives being encoded again.
	if text, err := marshal(w); err != nil || text != s {
		return Record{}, fmt.Errorf("%w: not as it was written", ErrMalformed)
	}
	if !known(w.Version) {
		return Record{}, fmt.Errorf("%w: %d", ErrVersion, w.Version)
	}
	return fromWire(w)
}

// versionOf returns the version that stands at the start of every record, in
// this version of the format and in all that follow.
func versionOf(s string) (int, bool) {
	rest, ok := strings.CutPrefix(s, `{"v":`)
	if !ok {
		return 0, false
	}
	version, digits := 0, 0
	for digits < len(rest) && digits < 9 && '0' <= rest[digits] && rest[digits] <= '9' {
		version = version*10 + int(rest[digits]-'0')
		digits++
	}
	return version, digits > 0
}

// maxHead is where the generation of a record stands at the latest: before it are
// a namespace, a name and a UID.
const maxHead = 1 << 10

// Ahead reports whether s is for a later generation than g, without decoding it.
// Of what Decode refuses, and of names that no object has, it may say anything.
func Ahead(s string, g int64) bool {
	// A quotation mark within a text is escaped, so this is the field.
	_, rest, found := strings.Cut(s[:min(len(s), maxHead)], `,"g":`)
	if !found || len(s) > MaxSize {
		return false
	}
	digits := 0
	for digits < len(rest) && '0' <= rest[digits] && rest[digits] <= '9' {
		digits++
	}
	generation, err := strconv.ParseInt(rest[:digits], 10, 64)
	return err == nil && generation > g
}

// Bind returns the text of a record with a UID, if it was made before there was one,
// and whether that is so. It costs less than decoding, and what it returns is as
// little to be trusted as what it was given.
func Bind(text, uid string) (bound string, unbound bool) {
	// Quotes within strings are escaped, so that this is where the fields meet.
	before, rest, ok := strings.Cut(text, `,"g":`)
	if !ok || strings.Contains(before, `,"u":`) {
		return text, false
	}
	return before + `,"u":"` + uid + `","g":` + rest, true
}

// wire is a Record as JSON. The order of the fields is part of the format.
type wire struct {
	Version     int               `json:"v"`
	Namespace   string            `json:"ns"`
	Name        string            `json:"n"`
	UID         string            `json:"u,omitempty"`
	Generation  int64             `json:"g"`
	Template    string            `json:"t"`
	Keys        string            `json:"k"`
	Container   string            `json:"c,omitempty"`
	References  []wireReference   `json:"r,omitempty"`
	Annotations map[string]string `json:"a,omitempty"`
	ByPlace     bool              `json:"p,omitempty"`
}

// wireReference is a reloader.Reference as JSON.
type wireReference struct {
	Kind      string   `json:"k"`
	Name      string   `json:"n"`
	Container string   `json:"c,omitempty"`
	Init      bool     `json:"i,omitempty"`
	How       string   `json:"h"`
	Keys      []string `json:"y,omitempty"`
	Optional  bool     `json:"o,omitempty"`
}

func toWire(r Record) (wire, error) {
	w := wire{
		Version:     r.Version,
		Namespace:   r.Namespace,
		Name:        r.Name,
		UID:         r.UID,
		Generation:  r.Generation,
		Template:    r.Template,
		Keys:        r.Keys,
		Container:   r.Container,
		Annotations: r.Annotations,
		ByPlace:     r.ByPlace,
	}
	if len(r.Template) > maxTemplate {
		return wire{}, fmt.Errorf("%w: template", ErrMalformed)
	}
	if len(r.References) > 0 {
		w.References = make([]wireReference, len(r.References))
	}
	for i, ref := range r.References {
		kind, ok := kindCode(ref.Kind)
		if !ok || ref.Name == "" || !knownHow(ref.How) {
			return wire{}, fmt.Errorf("%w: reference %d", ErrMalformed, i)
		}
		w.References[i] = wireReference{
			Kind:      kind,
			Name:      ref.Name,
			Container: ref.Container,
			Init:      ref.Init,
			How:       string(ref.How),
			Keys:      ref.Keys,
			Optional:  ref.Optional,
		}
	}
	return w, nil
}

func fromWire(w wire) (Record, error) {
	r := Record{
		Version:     w.Version,
		Namespace:   w.Namespace,
		Name:        w.Name,
		UID:         w.UID,
		Generation:  w.Generation,
		Template:    w.Template,
		Keys:        w.Keys,
		Container:   w.Container,
		Annotations: w.Annotations,
		ByPlace:     w.ByPlace,
	}
	if len(w.Template) > maxTemplate {
		return Record{}, fmt.Errorf("%w: template", ErrMalformed)
	}
	if len(w.References) > 0 {
		r.References = make([]reloader.Reference, len(w.References))
	}
	for i, ref := range w.References {
		kind, ok := kindOf(ref.Kind)
		if !ok || ref.Name == "" || !knownHow(reloader.How(ref.How)) {
			return Record{}, fmt.Errorf("%w: reference %d", ErrMalformed, i)
		}
		r.References[i] = reloader.Reference{
			Kind:      kind,
			Name:      ref.Name,
			Container: ref.Container,
			Init:      ref.Init,
			How:       reloader.How(ref.How),
			Keys:      ref.Keys,
			Optional:  ref.Optional,
		}
	}
	return r, nil
}

// marshal returns w as JSON without a line end. Text that is not UTF-8 is an
// error, because it would not come back.
func marshal(w wire) (string, error) {
	if !utf8Only(w) {
		return "", fmt.Errorf("%w: text is not UTF-8", ErrMalformed)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	// The text goes into an annotation, never into a page: patterns in it
	// stay readable.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(w); err != nil {
		return "", fmt.Errorf("encode index record: %w", err)
	}
	return strings.TrimSuffix(text.String(), "\n"), nil
}

func utf8Only(w wire) bool {
	ok := utf8.ValidString(w.Namespace) && utf8.ValidString(w.Name) && utf8.ValidString(w.UID) &&
		utf8.ValidString(w.Template) && utf8.ValidString(w.Keys) && utf8.ValidString(w.Container)
	for _, ref := range w.References {
		ok = ok && utf8.ValidString(ref.Name) && utf8.ValidString(ref.Container)
		for _, key := range ref.Keys {
			ok = ok && utf8.ValidString(key)
		}
	}
	for key, value := range w.Annotations {
		ok = ok && utf8.ValidString(key) && utf8.ValidString(value)
	}
	return ok
}

func kindCode(kind reloader.SourceKind) (string, bool) {
	switch kind {
	case reloader.ConfigMap:
		return "cm", true
	case reloader.Secret:
		return "secret", true
	case reloader.SecretProviderClass:
		return "spc", true
	}
	return "", false
}

func kindOf(code string) (reloader.SourceKind, bool) {
	switch code {
	case "cm":
		return reloader.ConfigMap, true
	case "secret":
		return reloader.Secret, true
	case "spc":
		return reloader.SecretProviderClass, true
	}
	return "", false
}

func knownHow(how reloader.How) bool {
	switch how {
	case reloader.HowEnv, reloader.HowEnvFrom, reloader.HowVolume, reloader.HowProjected, reloader.HowCSI,
		reloader.HowImagePull, reloader.HowNodePublish, reloader.HowVolumePlugin:
		return true
	}
	return false
}
