package alert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Alert is one message.
type Alert struct {
	// Namespace that the message is about: no namespace takes the places of
	// others in the queue. Empty is one of its own.
	Namespace string
	Text      Text
	// Failure is true if something has not worked.
	Failure bool
}

// Sink is the kind of receiver.
type Sink string

// The sinks.
const (
	Plain Sink = "webhook" // plain text, without asterisks
	Slack Sink = "slack"
	Teams Sink = "teams"
	GChat Sink = "gchat"
)

// parseSink returns the sink of that name, in any case; none is Plain.
func parseSink(name string) (Sink, error) {
	switch s := Sink(strings.ToLower(strings.TrimSpace(name))); s {
	case "":
		return Plain, nil
	case Plain, Slack, Teams, GChat:
		return s, nil
	}
	return "", fmt.Errorf("%q is unknown: use %s, %s, %s or %s", name, Slack, Teams, GChat, Plain)
}

// message is what Teams and Google Chat take.
type message struct {
	Text string `json:"text"`
}

// attachments is what Slack takes.
type attachments struct {
	Attachments []attachment `json:"attachments"`
}

type attachment struct {
	Text       string `json:"text"`
	Color      string `json:"color"`
	AuthorName string `json:"author_name"`
}

// body returns the request body for an alert.
func (s Sink) body(a Alert, info string) (contentType string, body []byte, err error) {
	text := s.text(a.Text)
	if info != "" {
		// The operator of the product may write markup here.
		text = info + " : " + text
	}
	var content any
	switch s {
	case Slack:
		color := "good"
		if a.Failure {
			color = "danger"
		}
		content = attachments{[]attachment{{Text: text, Color: color, AuthorName: "Reloader"}}}
	case Teams, GChat:
		content = message{text}
	case Plain:
		return "text/plain; charset=utf-8", []byte(text), nil
	default:
		return "", nil, fmt.Errorf("unknown sink %q", s)
	}
	var encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	// The body goes to a chat, never into a page.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(content); err != nil {
		return "", nil, fmt.Errorf("encode an alert: %w", err)
	}
	return "application/json", bytes.TrimSuffix(encoded.Bytes(), []byte("\n")), nil
}
