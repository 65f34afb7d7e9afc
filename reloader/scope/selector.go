package scope

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// ParseSelector returns the selector that several texts describe together, each
// of which is a comma list of requirements that must all hold: those of
// kubectl, such as `k=v`, `k!=v`, `k in (a,b)`, `k` and `!k`, and the older
// forms `k:v`, for `k=v`, and `k:*` or `k=*`, for `k`. Without any requirement
// it returns nil.
//
// The error names the requirement that cannot be understood.
func ParseSelector(texts ...string) (labels.Selector, error) {
	var all []string
	// Lists of a flag are cut at every comma, so a set of values may be spread
	// over several texts.
	for _, part := range requirements(strings.Join(texts, ",")) {
		if parsed, err := labels.ParseToRequirements(modern(part)); err != nil || len(parsed) == 0 {
			return nil, fmt.Errorf("%q is no label selector: use k=v, k!=v, k in (a,b), k or !k", part)
		}
		all = append(all, modern(part))
	}
	if len(all) == 0 {
		return nil, nil //nolint:nilnil // no selector is no error
	}
	return labels.Parse(strings.Join(all, ","))
}

// requirements cuts text at the commas that stand outside of parentheses.
func requirements(text string) []string {
	var parts []string
	depth, from := 0, 0
	add := func(part string) {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	for i, c := range text {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth <= 0:
			add(text[from:i])
			from = i + 1
		}
	}
	add(text[from:])
	return parts
}

// modern returns a requirement that is written in one of the older forms as one
// of today's. No label and no value of one has a colon or an asterisk.
func modern(requirement string) string {
	key, value, old := strings.Cut(requirement, ":")
	if !old {
		key, value, old = strings.Cut(requirement, "=")
		old = old && strings.TrimSpace(value) == "*" && !strings.HasSuffix(key, "!")
	}
	switch {
	case !old:
		return requirement
	case strings.TrimSpace(value) == "*":
		return key
	default:
		return key + "=" + value
	}
}
