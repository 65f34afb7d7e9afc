// Package process runs child processes that cannot outlive their parent.
//
// A Group is a process group with a guard in it: a small shell that does
// nothing but wait for the end of a pipe whose other end the parent holds. When
// the parent ends, in whatever way (kill -9 included), the pipe ends, and the
// guard kills the whole group, itself last. A child joins the group before its
// program is executed, so there is no moment in which it could be missed, and
// no list of process ids that could be out of date.
//
// What the processes are is no business of this package: see packages cluster
// and podrunner.
package process
