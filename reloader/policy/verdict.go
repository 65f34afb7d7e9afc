package policy

import (
	"fmt"
	"strings"

	"k8s-reloader/reloader"
)

// Mode says what admission does about problems.
type Mode string

// The modes, mildest first.
const (
	ModeOff     Mode = "off"     // say nothing
	ModeWarn    Mode = "warn"    // warn, deny nothing
	ModeDefault Mode = "default" // deny what is broken, warn about the rest
	ModeStrict  Mode = "strict"  // deny what is broken or doubtful
)

// Modes returns every mode, mildest first.
func Modes() []Mode { return []Mode{ModeOff, ModeWarn, ModeDefault, ModeStrict} }

// ParseMode reads the setting.
func ParseMode(s string) (Mode, error) {
	for _, m := range Modes() {
		if s == string(m) {
			return m, nil
		}
	}
	return "", fmt.Errorf("%s: write one of off, warn, default, strict", line(quoted(s), fixed(" is no admission mode")))
}

// maxLines bounds the problems in one response. The API server truncates its
// warnings at 4 KiB.
const maxLines = 10

// Verdict is what admission answers.
type Verdict struct {
	// Denied are the problems that deny the request; none: it is allowed.
	Denied []reloader.Problem
	// Warnings are the others, one line each: at most ten, of at most 120
	// bytes, the last one "and N more" if there are more.
	Warnings []string
}

// Denies reports whether a problem of this severity denies the request.
func (m Mode) Denies(s reloader.Severity) bool {
	switch m {
	case ModeStrict:
		return s >= reloader.Doubtful
	case ModeDefault:
		return s >= reloader.Broken
	case ModeOff, ModeWarn:
		return false
	}
	return false
}

// Verdict sorts problems into denials and warnings.
func (m Mode) Verdict(problems []reloader.Problem) Verdict {
	var v Verdict
	if m == ModeOff {
		return v
	}
	var told []reloader.Problem
	for _, p := range problems {
		if m.Denies(p.Severity) {
			v.Denied = append(v.Denied, p)
		} else {
			told = append(told, p)
		}
	}
	v.Warnings = tell(told)
	return v
}

// Message returns the text of the denial, complete for someone who reads it
// behind `denied the request:` in a terminal. It is empty if nothing denies.
func (v Verdict) Message() string {
	switch len(v.Denied) {
	case 0:
		return ""
	case 1:
		return v.Denied[0].Message
	}
	return fmt.Sprintf("%d problems with Reloader's annotations:\n- %s", len(v.Denied), strings.Join(tell(v.Denied), "\n- "))
}

// tell returns the messages of at most maxLines problems.
func tell(problems []reloader.Problem) []string {
	var lines []string
	for i, p := range problems {
		if i == maxLines-1 && len(problems) > maxLines {
			return append(lines, fmt.Sprintf("and %d more", len(problems)-i))
		}
		lines = append(lines, p.Message)
	}
	return lines
}
