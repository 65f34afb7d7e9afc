package record

import (
	"fmt"
	"strconv"
	"strings"
)

// canonicalNumber returns the one spelling of a JSON number: its digits without
// zeros at either end and a power of ten, so that 10, 10.0 and 1e1 are the
// same. It works on the text, so that no digit is lost.
func canonicalNumber(number string) (string, error) {
	number, negative := strings.CutPrefix(number, "-")
	exponent := 0
	if at := strings.IndexAny(number, "eE"); at >= 0 {
		var err error
		// Far more than any number that a field can hold.
		if exponent, err = strconv.Atoi(number[at+1:]); err != nil || exponent > 1e9 || exponent < -1e9 {
			return "", fmt.Errorf("%w: number out of range", ErrMalformed)
		}
		number = number[:at]
	}
	whole, fraction, _ := strings.Cut(number, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	exponent -= len(fraction)
	trimmed := strings.TrimRight(digits, "0")
	exponent += len(digits) - len(trimmed)
	switch {
	case trimmed == "":
		return "0", nil
	case negative:
		trimmed = "-" + trimmed
	}
	return trimmed + "e" + strconv.Itoa(exponent), nil
}
