package alert

import (
	"strings"

	"k8s-reloader/reloader/printable"
)

// Text is a message. It may contain text that a tenant wrote, so each sink escapes
// its own markup.
type Text []Part

// Part is a stretch of text in one style.
type Part struct {
	Text string
	Bold bool
}

// Plainly returns t with s behind it.
func (t Text) Plainly(s string) Text { return append(t, Part{Text: s}) }

// Boldly returns t with s behind it in bold.
func (t Text) Boldly(s string) Text { return append(t, Part{Text: s, Bold: true}) }

// String returns the text with asterisks around bold parts.
func (t Text) String() string { return t.render("*", func(s string) string { return s }) }

// render returns the text as one line, with the given mark around bold parts.
func (t Text) render(bold string, escape func(string) string) string {
	var b strings.Builder
	for _, p := range t {
		s := escape(printable.Line(p.Text))
		if p.Bold {
			s = bold + s + bold
		}
		b.WriteString(s)
	}
	return b.String()
}

// What the markup of a chat would take for a link, a mention or a style. Where
// it has no way to write a character as itself, one that looks alike stands in.
// Addresses get a space, or a chat makes links of them.
var (
	slackEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;",
		"*", "∗", "~", "∼", "`", "ˋ", "://", ": //")
	gchatEscapes = strings.NewReplacer("<", "‹", ">", "›",
		"*", "∗", "~", "∼", "`", "ˋ", "://", ": //")
	// Teams takes Markdown, and HTML in it.
	teamsEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;",
		`\`, `\\`, "[", `\[`, "]", `\]`, "*", `\*`, "~", `\~`, "`", "\\`", "!", `\!`, "#", `\#`, "|", `\|`, "://", ": //")
)

// text returns a message in the markup of the sink.
func (s Sink) text(t Text) string {
	switch s {
	case Slack:
		return t.render("*", slackEscapes.Replace)
	case GChat:
		return t.render("*", gchatEscapes.Replace)
	case Teams:
		return t.render("*", teamsEscapes.Replace)
	case Plain:
	}
	return t.render("", func(s string) string { return s })
}
