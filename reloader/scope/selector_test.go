package scope

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/labels"
)

func TestParseSelector(t *testing.T) {
	tests := map[string]struct {
		texts []string
		// want is the selector as text; empty is none.
		want string
	}{
		"nothing":                                  {},
		"nothing but commas":                       {texts: []string{" , ", ""}},
		"a value":                                  {texts: []string{"a=1"}, want: "a=1"},
		"a value, doubly equal":                    {texts: []string{"a==1"}, want: "a==1"},
		"another value":                            {texts: []string{"a!=1"}, want: "a!=1"},
		"a label":                                  {texts: []string{"a"}, want: "a"},
		"no label":                                 {texts: []string{"!a"}, want: "!a"},
		"one of several values":                    {texts: []string{"a in (1, 2)"}, want: "a in (1,2)"},
		"none of several values":                   {texts: []string{"a notin (1,2)"}, want: "a notin (1,2)"},
		"several":                                  {texts: []string{"a=1,b in (x,y),!c"}, want: "a=1,b in (x,y),!c"},
		"several texts":                            {texts: []string{"b=2", "a=1"}, want: "a=1,b=2"},
		"a set that was cut at its comma":          {texts: []string{"a in (1", "2)", "b"}, want: "a in (1,2),b"},
		"a value in the older form":                {texts: []string{"a:1"}, want: "a=1"},
		"a value in the older form, with spaces":   {texts: []string{" a : 1 "}, want: "a=1"},
		"any value in the older form":              {texts: []string{"a:*"}, want: "a"},
		"any value in the other older form":        {texts: []string{"a=*"}, want: "a"},
		"old and new forms":                        {texts: []string{"a:1,b:*", "c!=3"}, want: "a=1,b,c!=3"},
		"a label with a domain, in the older form": {texts: []string{"team.example/name:shop"}, want: "team.example/name=shop"},
		"an empty value":                           {texts: []string{"a="}, want: "a="},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseSelector(tc.texts...)
			require.NoError(t, err)
			if tc.want == "" {
				assert.Nil(t, got)
				return
			}
			want, err := labels.Parse(tc.want)
			require.NoError(t, err)
			assert.Equal(t, want.String(), got.String())
		})
	}
}

func TestWhatIsNoSelectorIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		"a=1,b=(":       `"b=("`,
		"a b":           `"a b"`,
		"a in (1":       `"a in (1"`,
		"a!=*":          `"a!=*"`,
		"a:b:c":         `"a:b:c"`,
		"*":             `"*"`,
		"a in (1),,)":   `")"`,
		"a=not a value": `"a=not a value"`,
	} {
		_, err := ParseSelector(text)
		require.ErrorContains(t, err, want+" is no label selector: use k=v", text)
		assert.NotContains(t, err.Error(), "\n")
	}
}

// FuzzParseSelector: whatever kubectl understands means here what it means
// there, and a selector that is written out and read again is the same.
func FuzzParseSelector(f *testing.F) {
	for _, text := range []string{"a=1", "a:1,b:*", "a in (1,2),!b", "a!=1", "x/y notin (a)", "a>1", "(,", "a=*"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsRune(text, 0) {
			return // no command line can hold that
		}
		got, err := ParseSelector(text)
		if want, invalid := labels.Parse(text); invalid == nil && !want.Empty() {
			require.NoError(t, err)
			assert.Equal(t, want.String(), got.String())
		}
		if err != nil || got == nil {
			return
		}
		again, err := ParseSelector(got.String())
		require.NoError(t, err)
		assert.Equal(t, got.String(), again.String())
	})
}
