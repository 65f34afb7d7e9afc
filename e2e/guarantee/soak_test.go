package guarantee

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// soakFor is how long the soak takes.
func soakFor(t *testing.T) time.Duration {
	t.Helper()
	given := os.Getenv("RELOADER_SOAK")
	if given == "" {
		return efforts().soak
	}
	d, err := time.ParseDuration(given)
	require.NoError(t, err, "RELOADER_SOAK")
	return d
}

// size is what an engine takes.
type size struct{ goroutines, bytes float64 }

func (e *engine) size() size {
	return size{e.metric("go_goroutines"), e.metric("process_resident_memory_bytes")}
}

func TestSoak(t *testing.T) {
	length := soakFor(t)
	w := newWorld(t, "soak")
	c := w.chaos(30, 40)
	e := w.engine("a", unlimited()...)
	e.up()
	c.settled()

	// In the first half the engine is restarted again and again; in the second
	// it runs on, and must not grow.
	began := time.Now()
	changes, counts := 0, map[string]int{}
	for next := began.Add(3 * time.Second); time.Since(began) < length/2; {
		c.any()
		changes++
		w.wait(w.upTo(60 * time.Millisecond))
		if time.Now().Before(next) {
			continue
		}
		if w.random.IntN(2) == 0 {
			e.kill()
			counts["killed"]++
		} else {
			e.terminate()
			counts["terminated"]++
		}
		for range w.random.IntN(10) {
			c.change()
		}
		e.up()
		next = time.Now().Add(2*time.Second + w.upTo(6*time.Second))
	}
	w.requireRight(2 * time.Minute)
	var before size
	for time.Since(began) < length {
		c.any()
		changes++
		w.wait(w.upTo(60 * time.Millisecond))
		if before == (size{}) && time.Since(began) > length*2/3 {
			before = e.size()
		}
	}
	w.requireRight(2 * time.Minute)
	after := e.size()
	t.Logf("%d changes in %s, engine %v; goroutines %.0f, then %.0f; MiB %.0f, then %.0f",
		changes, length, counts, before.goroutines, after.goroutines, before.bytes/(1<<20), after.bytes/(1<<20))
	assert.LessOrEqual(t, after.goroutines, before.goroutines+10)
	// Go gives memory back late, and the race detector needs some of its own.
	assert.LessOrEqual(t, after.bytes, before.bytes*1.25+(16<<20))
	e.terminate()
}
