package guard

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// Panic is a panic as an error.
type Panic struct {
	cause string
	stack string
}

// Error does not quote a value that was panicked with, which could be of an
// object's content; what the runtime reports is of types and bounds.
func (p Panic) Error() string { return "panic: " + p.cause }

// Call calls f, and makes an error of its panic.
func Call(f func() error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case runtime.Error:
			err = Panic{p.Error(), string(debug.Stack())}
		default:
			err = Panic{fmt.Sprintf("a %T", p), string(debug.Stack())}
		}
	}()
	return f()
}

// Panicked reports whether an error is a panic.
func Panicked(err error) bool {
	_, ok := errors.AsType[Panic](err)
	return ok
}

// Stack returns where the panic was that an error is; empty if it is none.
func Stack(err error) string {
	p, _ := errors.AsType[Panic](err)
	return p.stack
}
