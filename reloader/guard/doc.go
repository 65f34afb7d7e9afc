// Package guard makes errors of panics. What works on text of strangers is called
// through it, so that a hole in a decoder is a failure of what was decoded, and not
// the end of the process.
//
// It does not decide what becomes of such an error: whoever calls counts and logs
// it, and tries again or goes on without.
package guard
