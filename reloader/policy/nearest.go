package policy

// maxDistance is how many letters a typo may be away from the key it meant.
const maxDistance = 3

// nearest returns the candidate that a key was probably meant to be: the one
// with the fewest edits, the first of several, none beyond maxDistance.
func nearest(key string, candidates []string) (string, bool) {
	best, least := "", maxDistance+1
	for _, candidate := range candidates {
		if d := distance(key, candidate, least); d < least {
			best, least = candidate, d
		}
	}
	return best, least <= maxDistance
}

// distance returns the Levenshtein distance of two strings, or limit if it is
// at least that. It computes only a band around the diagonal, so that a
// hostile key costs no more than its length.
func distance(a, b string, limit int) int {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(a)+1)
	for j := range row {
		row[j] = min(j, limit)
	}
	for i := 1; i <= len(b); i++ {
		from, to := max(1, i-limit), min(len(a), i+limit)
		diagonal := row[from-1]
		if from == 1 {
			row[0] = min(i, limit)
		} else {
			row[from-1] = limit
		}
		if to == i+limit {
			row[to] = limit // never set by the row before
		}
		least := row[from-1]
		for j := from; j <= to; j++ {
			cost := diagonal
			if a[j-1] != b[i-1] {
				cost = min(diagonal, row[j], row[j-1]) + 1
			}
			diagonal, row[j] = row[j], min(cost, limit)
			least = min(least, row[j])
		}
		if least >= limit {
			return limit
		}
	}
	return row[len(a)]
}
