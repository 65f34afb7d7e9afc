package charts_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template/parse"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// chartValues are those of values.yaml.
func chartValues(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile("reloader/values.yaml")
	require.NoError(t, err)
	var found map[string]any
	require.NoError(t, yaml.UnmarshalStrict(text, &found))
	return found
}

// leaves are the paths of all values, those of open maps ending at the map.
func leaves(of map[string]any, path string) (found []string) {
	for name, value := range of {
		at := strings.TrimPrefix(path+"."+name, ".")
		if below, ok := value.(map[string]any); ok && len(below) > 0 && !isOpen(at) {
			found = append(found, leaves(below, at)...)
			continue
		}
		found = append(found, at)
	}
	slices.Sort(found)
	return found
}

// isOpen says whether a map of the values is handed on as it stands.
func isOpen(path string) bool {
	last := path[strings.LastIndex(path, ".")+1:]
	return slices.Contains([]string{"resources", "securityContext", "containerSecurityContext", "updatePolicy"}, last)
}

func TestEveryValueIsUsedAndEveryUsedValueIsDeclared(t *testing.T) {
	used := usedValues(t)
	values := chartValues(t)
	// Accepted for the sake of old values files; values.yaml says so.
	without := []string{"kubernetes", "reloader.legacy.rbac"}
	for _, leaf := range leaves(values, "") {
		assert.NotEqual(t, slices.Contains(without, leaf), used[leaf], "whether %s is used in a template", leaf)
	}
	for path := range used {
		assert.True(t, declares(values, strings.Split(path, ".")), "a template uses %s, which values.yaml does not have", path)
	}
}

// declares says whether there is such a value, or room for it in an open map.
func declares(values map[string]any, path []string) bool {
	value, ok := values[path[0]]
	if !ok || len(path) == 1 {
		return ok
	}
	if _, list := value.([]any); list {
		return true
	}
	below, ok := value.(map[string]any)
	return ok && (len(below) == 0 || declares(below, path[1:]))
}

// usage finds the values that templates use. What a dot or a variable stands for
// is followed where it is the root, a part of it, or an element of such a part.
type usage struct {
	trees map[string]*parse.Tree
	used  map[string]bool
	// walked are the named templates that have been seen with what they got.
	walked map[string]bool
}

// scope is what the dot and the variables are, as paths from the root: "" is the
// root itself, "Values.reloader" a part of it, and unknown anything else.
type scope struct {
	dot       string
	variables map[string]string
}

const unknown = "?"

func usedValues(t *testing.T) map[string]bool {
	t.Helper()
	u := usage{trees: map[string]*parse.Tree{}, used: map[string]bool{}, walked: map[string]bool{}}
	files, err := filepath.Glob("reloader/templates/*")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		tree := parse.New(file)
		tree.Mode = parse.SkipFuncCheck
		_, err = tree.Parse(string(text), "", "", u.trees)
		require.NoError(t, err)
	}
	for _, file := range files {
		if tree := u.trees[file]; tree != nil {
			u.walk(tree.Root, &scope{variables: map[string]string{"$": ""}})
		}
	}
	return u.used
}

func (u *usage) walk(node parse.Node, s *scope) {
	switch n := node.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, child := range n.Nodes {
				u.walk(child, s)
			}
		}
	case *parse.ActionNode:
		u.pipe(n.Pipe, s)
	case *parse.IfNode:
		u.pipe(n.Pipe, s)
		u.walk(n.List, s)
		u.walk(n.ElseList, s)
	case *parse.WithNode:
		u.walk(n.List, u.inside(n.Pipe, s))
		u.walk(n.ElseList, s)
	case *parse.RangeNode:
		u.pipe(n.Pipe, s)
		u.walk(n.List, u.inside(n.Pipe, s))
		u.walk(n.ElseList, s)
	}
}

// inside is the scope of a with or range: its dot is what the pipe stands for.
func (u *usage) inside(pipe *parse.PipeNode, s *scope) *scope {
	dot := unknown
	if len(pipe.Cmds) == 1 && len(pipe.Cmds[0].Args) == 1 {
		dot = s.path(pipe.Cmds[0].Args[0])
	}
	if dot == unknown {
		u.pipe(pipe, s)
	}
	return &scope{dot: dot, variables: s.variables}
}

func (u *usage) pipe(pipe *parse.PipeNode, s *scope) {
	if pipe == nil {
		return
	}
	if len(pipe.Decl) == 1 && len(pipe.Cmds) == 1 && len(pipe.Cmds[0].Args) == 1 {
		if path := s.path(pipe.Cmds[0].Args[0]); path != unknown {
			s.variables[pipe.Decl[0].Ident[0]] = path
			return
		}
	}
	for _, cmd := range pipe.Cmds {
		u.command(cmd, s)
	}
}

func (u *usage) command(cmd *parse.CommandNode, s *scope) {
	if len(cmd.Args) == 3 && cmd.Args[0].String() == "include" {
		u.include(cmd, s)
		return
	}
	for _, arg := range cmd.Args {
		if inner, ok := arg.(*parse.PipeNode); ok {
			u.pipe(inner, s)
			continue
		}
		if path, ok := strings.CutPrefix(s.path(arg), "Values."); ok {
			u.used[path] = true
		}
	}
}

func (u *usage) include(cmd *parse.CommandNode, s *scope) {
	name, argument := strings.Trim(cmd.Args[1].String(), `"`), cmd.Args[2]
	dot := s.path(argument)
	if inner, ok := argument.(*parse.PipeNode); ok {
		u.pipe(inner, s)
	}
	seen := fmt.Sprintf("%s %s", name, dot)
	if u.walked[seen] || u.trees[name] == nil {
		return
	}
	u.walked[seen] = true
	u.walk(u.trees[name].Root, &scope{dot: dot, variables: map[string]string{"$": dot}})
}

func (s *scope) path(node parse.Node) string {
	join := func(base string, names []string) string {
		if base == unknown {
			// Templates that get a dict have the root under this name.
			if len(names) > 0 && names[0] == "root" {
				return strings.Join(names[1:], ".")
			}
			return unknown
		}
		return strings.Trim(base+"."+strings.Join(names, "."), ".")
	}
	switch n := node.(type) {
	case *parse.DotNode:
		return s.dot
	case *parse.FieldNode:
		return join(s.dot, n.Ident)
	case *parse.VariableNode:
		base, ok := s.variables[n.Ident[0]]
		if !ok {
			base = unknown
		}
		return join(base, n.Ident[1:])
	}
	return unknown
}

// A name that does not exist is refused with those that begin alike.
func TestTheSchemaSuggestsNamesThatExist(t *testing.T) {
	text, err := os.ReadFile("reloader/values.schema.json")
	require.NoError(t, err)
	var root schema
	require.NoError(t, json.Unmarshal(text, &root))
	suggested := 0
	var check func(path string, s schema)
	check = func(path string, s schema) {
		for _, group := range s.PropertyNames.AllOf {
			prefix := strings.TrimPrefix(group.If.Pattern, "^(?i)")
			var want []string
			for name := range s.Properties {
				if strings.HasPrefix(strings.ToLower(name), prefix) {
					want = append(want, name)
				}
			}
			suggested += len(want)
			assert.ElementsMatch(t, want, group.Then.Enum, "%s, names that begin with %s", path, prefix)
		}
		for name, below := range s.Properties {
			check(path+"."+name, below)
		}
	}
	check("", root)
	assert.Greater(t, suggested, 100)
}

// schema is what the tests read of values.schema.json.
type schema struct {
	Properties    map[string]schema
	PropertyNames struct {
		AllOf []struct {
			If   struct{ Pattern string }
			Then struct{ Enum []string }
		}
	}
	AdditionalProperties any
}

func TestTheSchemaKnowsExactlyTheValues(t *testing.T) {
	text, err := os.ReadFile("reloader/values.schema.json")
	require.NoError(t, err)
	var root schema
	require.NoError(t, json.Unmarshal(text, &root))
	var compare func(path string, values map[string]any, s schema)
	compare = func(path string, values map[string]any, s schema) {
		for name, value := range values {
			below, ok := s.Properties[name]
			assert.True(t, ok, "values.yaml has %s.%s, which the schema has not", path, name)
			if deeper, isMap := value.(map[string]any); isMap && len(below.Properties) > 0 {
				assert.True(t, below.AdditionalProperties == false || path+"."+name == ".global", "%s.%s lets typos pass", path, name)
				compare(path+"."+name, deeper, below)
			}
		}
		for name := range s.Properties {
			// The names within these two are shown as a comment: they are empty.
			if path != ".reloader.service" && path != ".reloader.custom_annotations" {
				assert.Contains(t, values, name, "the schema has %s.%s, which values.yaml has not", path, name)
			}
		}
	}
	compare("", chartValues(t), root)
}

func TestNamesWithNothingBehindThem(t *testing.T) {
	out, problems, err := helm(t, append(templateArgs(nil), "--values", "testdata/empty-values.yaml")...)
	require.NoError(t, err, problems)
	assert.NotEmpty(t, decode(t, out))
}
