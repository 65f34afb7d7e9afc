//go:build guarantee

package guarantee

import "time"

// How often each test does what it does: the full number, always. On 2 cores
// with the race detector the package takes about ten minutes.
const (
	killRounds     = 100 // of a fan-out over killWorkloads, each with a kill
	killWorkloads  = 200
	leaderRounds   = 2 // of each way to lose the lead
	leaderApps     = 60
	changesAtFault = 300
	etcdPause      = 20 * time.Second
	restarts       = 3 // of the API server, each in the middle of a burst
	windowRounds   = 3
	stormWorkloads = 1000
	stormFor       = 25 * time.Second
	soakInTests    = 60 * time.Second
)
