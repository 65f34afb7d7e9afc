package reloader

// Severity says what admission does about a problem.
type Severity int

// The severities, mildest first.
const (
	// Notice is reported and never denied.
	Notice Severity = iota
	// Doubtful is reported, and denied in strict mode.
	Doubtful
	// Broken is denied by default.
	Broken
)

// String returns the severity in the words of the settings.
func (s Severity) String() string {
	switch s {
	case Notice:
		return "notice"
	case Doubtful:
		return "doubtful"
	case Broken:
		return "broken"
	}
	return "unknown"
}

// Problem is one problem of one manifest. It is comparable, so that problems that a
// request adds can be distinguished from existing ones.
type Problem struct {
	Severity Severity
	Reason   Reason
	// Field is the JSON path of the map or field that it is about, such as
	// metadata.annotations or spec.template.metadata.annotations.
	Field string
	// Key within the field, if the field is a map.
	Key string
	// Message is one line for people: the key, what it will do, and what to
	// write instead. At most 120 bytes.
	Message string
}

// Reasons of problems.
const (
	ReasonPausePeriodInvalid  Reason = "PausePeriodInvalid"
	ReasonWindowInvalid       Reason = "WindowInvalid"
	ReasonEntryInvalid        Reason = "EntryInvalid"
	ReasonStrategyUnknown     Reason = "StrategyUnknown"
	ReasonNamedAndExcluded    Reason = "NamedAndExcluded"
	ReasonTooManyPatterns     Reason = "TooManyPatterns"
	ReasonAutoBeatsSearch     Reason = "AutoBeatsSearch"
	ReasonAutoFalseNotOff     Reason = "AutoFalseNotOff"
	ReasonTypedAutoNotOff     Reason = "TypedAutoNotOff"
	ReasonValueNotBoolean     Reason = "ValueNotBoolean"
	ReasonTemplateHidden      Reason = "TemplateHidden"
	ReasonKeyMisplaced        Reason = "KeyMisplaced"
	ReasonExcludeNotExact     Reason = "ExcludeNotExact"
	ReasonPauseWithoutEffect  Reason = "PauseWithoutEffect"
	ReasonStrategyWrongKind   Reason = "StrategyWrongKind"
	ReasonKeyUnknown          Reason = "KeyUnknown"
	ReasonKeyAsLabel          Reason = "KeyAsLabel"
	ReasonEntryNeverMatches   Reason = "EntryNeverMatches"
	ReasonEntryDoubtful       Reason = "EntryDoubtful"
	ReasonEnvNamesCollide     Reason = "EnvNamesCollide"
	ReasonAutoWithoutRefs     Reason = "AutoWithoutReferences"
	ReasonCSIOff              Reason = "CSIOff"
	ReasonOnDelete            Reason = "OnDelete"
	ReasonOptsInJobs          Reason = "OptsInJobs"
	ReasonReferenceUnrecorded Reason = "ReferenceUnrecorded"
)

// ReasonNotNamed is the reason of a decision that a change does not reload a
// workload: its named list names others, and nothing else speaks for it.
const ReasonNotNamed Reason = "NotNamed"
