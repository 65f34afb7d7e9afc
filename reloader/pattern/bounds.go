package pattern

import "fmt"

// Bounds of one list. What goes beyond is skipped, and reported.
const (
	// MaxNames is how many entries may be names, which have no regular
	// expression in them but dots.
	MaxNames = 1_000
	// MaxPatterns is how many other entries count.
	MaxPatterns = 100
	// MaxLength is how many bytes one of those may have, and MaxText all.
	MaxLength = 512
	MaxText   = 8 << 10
	// MaxSize is how many instructions one may compile to, and MaxSizes all.
	// An ordinary expression has a dozen; every name there can be, written as
	// [a-z0-9.-]{1,253}, has 800.
	MaxSize  = 1_500
	MaxSizes = 8_000
)

// Fault says why an entry of a list is skipped.
type Fault int

// The faults of an entry.
const (
	Broken   Fault = iota + 1 // no regular expression
	TooLong                   // longer than MaxLength
	TooLarge                  // compiles to more than MaxSize
	TooMuch                   // beyond MaxText or MaxSizes
	TooMany                   // beyond MaxPatterns
	Crowded                   // beyond MaxNames
)

var _ fmt.Stringer = Fault(0)

// String describes the fault for users.
func (f Fault) String() string {
	switch f {
	case Broken:
		return "is no regular expression"
	case TooLong:
		return fmt.Sprintf("has more than %d bytes", MaxLength)
	case TooLarge, TooMuch:
		return "makes the list too complex"
	case TooMany:
		return fmt.Sprintf("comes after %d patterns", MaxPatterns)
	case Crowded:
		return fmt.Sprintf("comes after %d names", MaxNames)
	}
	return "is fine"
}
