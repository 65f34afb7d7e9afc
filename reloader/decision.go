package reloader

// Reason is the code that says why something was decided, found or done. The
// codes are a closed set and stay the same in warnings, events, metrics, logs
// and explanations.
type Reason string

// Reasons of a decision that a change of a source reloads a workload.
const (
	ReasonNamed         Reason = "Named"         // a named list matches
	ReasonSearchMatch   Reason = "SearchMatch"   // search on the workload, match on the source
	ReasonAuto          Reason = "Auto"          // auto or the typed auto
	ReasonAutoReloadAll Reason = "AutoReloadAll" // the flag, and no auto annotation
)

// Reasons of a decision that it does not.
const (
	ReasonKindOff       Reason = "KindOff"       // the source's kind is switched off
	ReasonIgnored       Reason = "Ignored"       // ignore: "true" on the source
	ReasonExcluded      Reason = "Excluded"      // the exclude list of its kind
	ReasonNotReferenced Reason = "NotReferenced" // opted in, but not used
	ReasonNoMatch       Reason = "NoMatch"       // search, but the source has no match
	ReasonAutoOff       Reason = "AutoOff"       // auto is there and not true
	ReasonNotOptedIn    Reason = "NotOptedIn"    // nothing speaks
)

// Decision says whether a change of one source reloads one workload.
type Decision struct {
	Reload bool
	Reason Reason
}
