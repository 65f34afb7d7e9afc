// Package alert sends messages about reloads to a chat or to any other HTTP
// receiver, as the environment asks for: settings.go reads it, sink.go makes
// the bodies, sender.go sends them.
//
// It never holds up who has something to tell: alerts wait in a bounded queue,
// and what does not fit into it is dropped, counted and logged. What they say
// is package report's to decide.
package alert
