package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
)

// screen is where people read along. It needs no terminal.
type screen struct {
	out io.Writer
}

// heading begins a part, and says what it does.
func (s *screen) heading(title, what string) {
	fmt.Fprintf(s.out, "\n%s\n%s\n", title, strings.Repeat("-", len(title)))
	if what != "" {
		fmt.Fprintln(s.out, what)
	}
	fmt.Fprintln(s.out)
}

// say prints one line of the demo's own.
func (s *screen) say(format string, args ...any) { fmt.Fprintf(s.out, "  "+format+"\n", args...) }

// text prints what is formatted already.
func (s *screen) text(text string) { fmt.Fprint(s.out, text) }

// quote is where programs write: their lines are set apart by a margin.
func (s *screen) quote() *quote { return &quote{out: s.out, atStart: true} }

// quote puts a margin before every line and remembers the text.
type quote struct {
	out     io.Writer
	atStart bool
	text    bytes.Buffer
}

// Write implements io.Writer; a line may come in pieces.
func (q *quote) Write(p []byte) (int, error) {
	q.text.Write(p)
	for line := range bytes.Lines(p) {
		if q.atStart {
			if _, err := io.WriteString(q.out, "    | "); err != nil {
				return 0, err
			}
		}
		if _, err := q.out.Write(line); err != nil {
			return 0, err
		}
		q.atStart = bytes.HasSuffix(line, []byte("\n"))
	}
	return len(p), nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
