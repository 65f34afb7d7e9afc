package reloader

// Outcome is the result of handling a workload or a source once.
type Outcome string

// The outcomes.
const (
	// OutcomeDone: the workload was patched.
	OutcomeDone Outcome = "done"
	// OutcomeUnchanged: nothing had to be written.
	OutcomeUnchanged Outcome = "unchanged"
	// OutcomeGone: the workload was deleted or replaced meanwhile.
	OutcomeGone Outcome = "gone"
	// OutcomeRetry: a passing failure; tried again soon.
	OutcomeRetry Outcome = "retry"
	// OutcomeStalled: a refusal that someone has to lift; tried again slowly.
	OutcomeStalled Outcome = "stalled"
)
