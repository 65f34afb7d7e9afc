// Package alert sends messages about reloads to a chat or another HTTP receiver.
// Environment variables configure it (settings.go). sink.go builds the request
// bodies, text.go their text in the markup of each sink; sender.go sends them in
// the order of line.go.
//
// Sending never blocks the caller. Alerts wait in a bounded queue; if it is full,
// an alert is dropped, counted and logged. Package report decides what alerts say.
package alert
