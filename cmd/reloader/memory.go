package main

import (
	"context"
	"math"
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

// memoryLimit returns that of the process, by GOMEMLIMIT; math.MaxInt64 is none.
func memoryLimit() int64 { return debug.SetMemoryLimit(-1) }

// namespaceMemory returns how many bytes the workloads of one namespace may take,
// given the limit of the process: an eighth of it, or the engine's default if there
// is none.
func namespaceMemory(limit int64) int {
	if limit == math.MaxInt64 {
		return 0
	}
	return max(int(limit/8), 1)
}
