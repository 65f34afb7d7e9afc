package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// maxDepth bounds how deep the JSON of a pod template may be nested. Real ones
// have about a dozen levels.
const maxDepth = 100

// TemplateHash returns a digest of a pod template, given its JSON. The digest
// is the same for the same template in every build: it is taken from the text,
// not from Go types, so that a field that this build does not know counts as
// well. Order of keys, white space, escapes, the spelling of numbers and
// members that are null do not count.
//
// It is also the same before and after a reload: the environment variables and
// the annotation that reloads write are left out, and so are the labels that
// the API server generates for the kind of workload, if it does. Everything
// else counts. A template of no bytes is null.
//
// The error wraps ErrMalformed and never quotes the template.
func TemplateHash(template []byte, k annotation.Keys, generated ...string) (string, error) {
	if len(template) == 0 {
		template = []byte("null")
	}
	c := canonical{
		decoder:   json.NewDecoder(bytes.NewReader(template)),
		mark:      k.LastReloadedFrom,
		generated: generated,
		text:      make([]byte, 0, len(template)),
	}
	c.decoder.UseNumber()
	if _, err := c.value(atTemplate, 0); err != nil {
		return "", fmt.Errorf("hash pod template: %w", err)
	}
	if c.decoder.InputOffset() != int64(len(bytes.TrimRight(template, " \t\r\n"))) {
		return "", fmt.Errorf("hash pod template: %w: more than one value", ErrMalformed)
	}
	sum := sha256.Sum256(c.text)
	return hex.EncodeToString(sum[:16]), nil
}

// place is where in a pod template a value stands, as far as that matters.
type place int

const (
	elsewhere place = iota
	atTemplate
	atMetadata
	atAnnotations
	atLabels
	atSpec
	atContainers
	atContainer
	atVariables
	atVariable
)

// member returns the place of a member of an object at p.
func (p place) member(key string) place {
	switch {
	case p == atTemplate && key == "metadata":
		return atMetadata
	case p == atTemplate && key == "spec":
		return atSpec
	case p == atMetadata && key == "annotations":
		return atAnnotations
	case p == atMetadata && key == "labels":
		return atLabels
	case p == atSpec && (key == "containers" || key == "initContainers"):
		return atContainers
	case p == atContainer && key == "env":
		return atVariables
	}
	return elsewhere
}

// element returns the place of an element of an array at p.
func (p place) element() place {
	if p == atContainers {
		return atContainer
	}
	if p == atVariables {
		return atVariable
	}
	return elsewhere
}

// vanishes reports whether a value at p that is empty is as good as none: with
// what a reload writes, it comes and goes.
func (p place) vanishes() bool {
	return p == atMetadata || p == atAnnotations || p == atLabels || p == atVariables
}

// canonical builds the canonical text of a template.
type canonical struct {
	decoder   *json.Decoder
	mark      string
	generated []string
	text      []byte
	spare     []byte
}

// value reads the next value and appends its canonical text. It reports whether
// there is anything to it; if not, the text is as it was, but for a null.
func (c *canonical) value(at place, depth int) (something bool, err error) {
	token, err := c.next()
	if err != nil {
		return false, err
	}
	if depth > maxDepth {
		return false, fmt.Errorf("%w: nested too deeply", ErrMalformed)
	}
	switch v := token.(type) {
	case nil:
		c.text = append(c.text, "null"...)
		return false, nil
	case bool:
		c.text = fmt.Append(c.text, v)
	case string:
		c.quote(v)
	case json.Number:
		number, err := canonicalNumber(string(v))
		if err != nil {
			return false, err
		}
		c.text = append(c.text, number...)
	case json.Delim:
		if v == '{' {
			return c.object(at, depth)
		}
		return c.array(at, depth)
	}
	return true, nil
}

// next returns the next token. The decoder's own error may quote the template.
func (c *canonical) next() (json.Token, error) {
	token, err := c.decoder.Token()
	if err != nil {
		return nil, fmt.Errorf("%w: broken JSON", ErrMalformed)
	}
	return token, nil
}

// span is the text of one member of an object.
type span struct {
	key        string
	start, end int
}

// object reads the rest of an object.
func (c *canonical) object(at place, depth int) (something bool, err error) {
	start := len(c.text)
	c.text = append(c.text, '{')
	var members []span
	variable := struct {
		name  string
		other bool
	}{}
	for c.decoder.More() {
		token, err := c.next()
		if err != nil {
			return false, err
		}
		key, _ := token.(string)
		from := len(c.text)
		c.quote(key)
		c.text = append(c.text, ':')
		value := len(c.text)
		something, err := c.value(at.member(key), depth+1)
		if err != nil {
			return false, err
		}
		if something && at == atVariable {
			switch key {
			case "name":
				variable.name = string(c.text[value:])
			case "valueFrom":
				variable.other = true
			}
		}
		if !something || at == atAnnotations && key == c.mark || at == atLabels && slices.Contains(c.generated, key) {
			c.text = c.text[:from]
			continue
		}
		c.text = append(c.text, ',')
		members = append(members, span{key, from, len(c.text)})
	}
	if _, err := c.next(); err != nil {
		return false, err
	}
	if len(members) == 0 && at.vanishes() || at == atVariable && !variable.other && isMark(variable.name) {
		c.text = c.text[:start]
		return false, nil
	}
	if err := c.sort(start+1, members); err != nil {
		return false, err
	}
	c.text = append(c.text, '}')
	return true, nil
}

// sort puts the members of an object, which begin at start, into the order of
// their keys.
func (c *canonical) sort(start int, members []span) error {
	byKey := func(a, b span) int { return strings.Compare(a.key, b.key) }
	if !slices.IsSortedFunc(members, byKey) {
		slices.SortStableFunc(members, byKey)
		c.spare = c.spare[:0]
		for _, m := range members {
			c.spare = append(c.spare, c.text[m.start:m.end]...)
		}
		copy(c.text[start:], c.spare)
	}
	for i := 1; i < len(members); i++ {
		if members[i].key == members[i-1].key {
			return fmt.Errorf("%w: a key stands there twice", ErrMalformed)
		}
	}
	return nil
}

// array reads the rest of an array.
func (c *canonical) array(at place, depth int) (something bool, err error) {
	start := len(c.text)
	c.text = append(c.text, '[')
	empty := true
	for c.decoder.More() {
		from := len(c.text)
		if _, err := c.value(at.element(), depth+1); err != nil {
			return false, err
		}
		if len(c.text) == from {
			continue // a mark
		}
		c.text = append(c.text, ',')
		empty = false
	}
	if _, err := c.next(); err != nil {
		return false, err
	}
	if empty && at.vanishes() {
		c.text = c.text[:start]
		return false, nil
	}
	c.text = append(c.text, ']')
	return true, nil
}

// quote appends a string with unambiguous ends.
func (c *canonical) quote(s string) {
	c.text = append(c.text, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			c.text = append(c.text, '\\')
		}
		c.text = append(c.text, s[i])
	}
	c.text = append(c.text, '"')
}

// isMark reports whether a variable, whose value stands in the template, is one
// that a reload wrote: by its name, in quotes.
func isMark(quoted string) bool {
	return reloader.IsEnvName(strings.Trim(quoted, `"`))
}
