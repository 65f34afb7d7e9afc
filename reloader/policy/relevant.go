package policy

// Relevant returns what tells the keys of annotations and labels that mean
// anything here from all others: those of k, and those that Judge takes for
// misspelled ones.
func (k Keys) Relevant() func(key []byte) bool {
	known := k.known()
	return func(key []byte) bool {
		if _, ok := known[string(key)]; ok { // makes no string
			return true
		}
		return len(key) >= len(domain) && underDomain(string(key))
	}
}
