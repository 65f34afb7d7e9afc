package reloader

import "strings"

const variablePrefix = "STAKATER_"

// EnvName returns the name of the environment variable that marks a container
// for a source. Different names can share one: my-cm and my.cm do.
func EnvName(kind SourceKind, name string) string {
	var b strings.Builder
	b.WriteString(variablePrefix)
	gap := true // leading other characters are dropped
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z':
			b.WriteByte(c - 'a' + 'A')
			gap = false
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			b.WriteByte(c)
			gap = false
		case !gap:
			b.WriteByte('_')
			gap = true
		}
	}
	b.WriteByte('_')
	b.WriteString(strings.ToUpper(string(kind)))
	return b.String()
}

// IsEnvName reports whether a variable may be one that marks a container.
func IsEnvName(variable string) bool {
	rest, ok := strings.CutPrefix(variable, variablePrefix)
	return ok && (strings.HasSuffix(rest, "_CONFIGMAP") ||
		strings.HasSuffix(rest, "_SECRET") ||
		strings.HasSuffix(rest, "_SECRETPROVIDERCLASS"))
}
