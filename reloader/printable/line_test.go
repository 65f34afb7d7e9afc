package printable_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader/printable"
)

func TestLine(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"ordinary text stays":                    {"Secret shop/db-1", "Secret shop/db-1"},
		"other scripts stay":                     {"größer 設定", "größer 設定"},
		"nothing stays nothing":                  {"", ""},
		"line breaks and tabs become spaces":     {"a\nb\r\nc\td", "a b  c d"},
		"other white space becomes a space":      {"a\u00a0b\u2028c\u2029d", "a b c d"},
		"escape sequences lose their escape":     {"\x1b[31mred\x1b]0;title\a", "\ufffd[31mred\ufffd]0;title\ufffd"},
		"C1 control characters are replaced":     {"a\u009bb", "a\ufffdb"},
		"bidirectional overrides are replaced":   {"user\u202etxt.exe", "user\ufffdtxt.exe"},
		"invisible characters are replaced":      {"ad\u200bmin\ufeff", "ad\ufffdmin\ufffd"},
		"bytes that are no UTF-8 are replaced":   {"a\xff\xfeb", "a\ufffd\ufffdb"},
		"half a surrogate pair is replaced":      {"a\xed\xa0\x80b", "a\ufffd\ufffd\ufffdb"},
		"a zero byte is replaced":                {"a\x00b", "a\ufffdb"},
		"the replacement character itself stays": {"a\ufffdb", "a\ufffdb"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, printable.Line(tc.text)) })
	}
}

func TestClip(t *testing.T) {
	tests := map[string]struct {
		text string
		size int
		want string
	}{
		"short text stays":                        {"abc", 3, "abc"},
		"long text ends with an ellipsis":         {"abcdefgh", 6, "abc..."},
		"a character is not cut in two":           {"abü" + strings.Repeat("x", 9), 6, "ab..."},
		"replaced bytes count with their length":  {"\x00\x00\x00", 8, "\ufffd..."},
		"there is less room than for an ellipsis": {"abcdef", 2, ".."},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, printable.Clip(tc.text, tc.size)) })
	}
}

func FuzzClip(f *testing.F) {
	f.Add("a\x1b[0m\n\u202e\xff", 5)
	f.Fuzz(func(t *testing.T, text string, size int) {
		size = max(0, min(size, 4096))
		got := printable.Clip(text, size)
		if len(got) > size {
			t.Fatalf("%d bytes, want at most %d", len(got), size)
		}
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) && r != utf8.RuneError }) {
			t.Fatalf("%q is not printable", got)
		}
		if again := printable.Line(got); again != got {
			t.Fatalf("%q became %q", got, again)
		}
	})
}
