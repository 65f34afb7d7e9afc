package guarantee

import (
	"math/rand/v2"
	"os"
	"time"
)

// effort is how often the tests do what they do.
type effort struct {
	// killRounds of a fan-out over killWorkloads, each with a kill.
	killRounds, killWorkloads int
	// keptCases are those of what is kept going wrong, leaderWays those to lose
	// the lead, drawn at random; each of the latter leaderRounds times.
	keptCases, leaderWays, leaderRounds int
	// changesAtFault while every fifth request goes wrong.
	changesAtFault int
	// cutOff is how long an engine does not reach the API server, etcdPause how
	// long etcd stands still.
	cutOff, etcdPause time.Duration
	// restarts of the API server, each in the middle of a burst.
	restarts     int
	windowRounds int
	keyRounds    int
	burstChanges int
	// stormWorkloads depend on one Secret that changes every second for stormFor.
	stormWorkloads int
	stormFor       time.Duration
	// soak, unless RELOADER_SOAK says how long.
	soak time.Duration
}

// efforts is the whole of it with RELOADER_ROUNDS=full: about a quarter of an
// hour on 2 cores with the race detector. Else it is a third of that.
func efforts() effort {
	if os.Getenv("RELOADER_ROUNDS") == "full" {
		return effort{
			killRounds: 100, killWorkloads: 200,
			keptCases: 100, leaderWays: 100, leaderRounds: 2,
			changesAtFault: 300, cutOff: 15 * time.Second, etcdPause: 20 * time.Second, restarts: 3,
			windowRounds: 3, keyRounds: 20, burstChanges: 1000,
			stormWorkloads: 1000, stormFor: 25 * time.Second,
			soak: time.Minute,
		}
	}
	return effort{
		killRounds: 8, killWorkloads: 100,
		keptCases: 2, leaderWays: 2, leaderRounds: 1,
		changesAtFault: 120, cutOff: 5 * time.Second, etcdPause: 5 * time.Second, restarts: 1,
		windowRounds: 1, keyRounds: 5, burstChanges: 300,
		stormWorkloads: 200, stormFor: 8 * time.Second,
		soak: 20 * time.Second,
	}
}

// some returns at most n of the names, drawn at random.
func some(random *rand.Rand, n int, names []string) []string {
	random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names[:min(n, len(names))]
}
