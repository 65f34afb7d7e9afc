package alert

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hostile is what a name, an error or a field manager may bring along.
var hostile = []string{
	"<!channel>", "<!here|here>", "<@U123>", "<users/all>", "<https://evil.example/login|Session expired, sign in>",
	"[Sign in](https://evil.example)", "![x](https://evil.example/x.png)", `<a href="https://evil.example">Sign in</a>`,
	"https://evil.example", "*FAKE*", "~no~", "`code`", "x\n*Reloader* detected", "x\r\nx", "\x1b[31mred", "\u202eexe.txt",
	"# heading", "| a | b |", "&lt;!channel&gt;", `\*`, "\xff",
}

func TestStrangersCannotWriteMarkup(t *testing.T) {
	forbidden := map[Sink][]string{
		Plain: nil,
		Slack: {"<", ">", "://", "~", "`"},
		GChat: {"<", ">", "://", "~", "`"},
		Teams: {"<", ">", "://"},
	}
	for sink, texts := range forbidden {
		for _, bad := range hostile {
			t.Run(string(sink)+" "+bad, func(t *testing.T) {
				_, body, err := sink.body(Alert{Text: say("Reloaded ").Boldly("web").Plainly(" " + bad)}, "")
				require.NoError(t, err)
				text := shown(t, sink, body)
				assert.False(t, strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) && r != '\ufffd' }), text)
				for _, f := range texts {
					assert.NotContains(t, text, f)
				}
				switch sink {
				case Plain:
				case Teams:
					for _, special := range "[]*~`!#|" {
						unescaped := strings.NewReplacer(`\\`, "", `\`+string(special), "").Replace(strings.Replace(text, "*web*", "", 1))
						assert.NotContains(t, unescaped, string(special))
					}
				case Slack, GChat:
					assert.Equal(t, 2, strings.Count(text, "*"), text)
				}
			})
		}
	}
}

func shown(t *testing.T, sink Sink, body []byte) string {
	t.Helper()
	switch sink {
	case Plain:
		return string(body)
	case Slack:
		var a attachments
		require.NoError(t, json.Unmarshal(body, &a))
		return a.Attachments[0].Text
	case Teams, GChat:
	}
	var m message
	require.NoError(t, json.Unmarshal(body, &m))
	return m.Text
}

func TestTexts(t *testing.T) {
	text := say("Changes in ").Boldly("a<b>&c").Plainly(" [x]")
	assert.Equal(t, "Changes in *a<b>&c* [x]", text.String())
	assert.Equal(t, "Changes in a<b>&c [x]", Plain.text(text))
	assert.Equal(t, "Changes in *a&lt;b&gt;&amp;c* [x]", Slack.text(text))
	assert.Equal(t, "Changes in *a‹b›&c* [x]", GChat.text(text))
	assert.Equal(t, `Changes in *a&lt;b&gt;&amp;c* \[x\]`, Teams.text(text))
}
