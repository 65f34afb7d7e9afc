// Package alert sends messages about reloads to a chat or to any other HTTP
// receiver, as the environment asks for: settings.go reads it, sink.go makes
// the bodies (text.go, their text in the markup of each sink), sender.go sends
// them (line.go, in which order).
//
// It never holds up who has something to tell: alerts wait in a bounded queue,
// and what does not fit into it is dropped, counted and logged. What they say
// is package report's to decide.
package alert
