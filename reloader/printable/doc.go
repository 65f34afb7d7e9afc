// Package printable makes text of strangers safe to show: names, error
// messages and field managers that end in events, alerts and logs.
//
// It knows nothing of the markup of a chat; package alert escapes that.
package printable
