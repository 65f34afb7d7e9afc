package policy

// Size returns about how many bytes of memory p takes, and how many names its
// named lists hold, of all kinds.
func (p *Policy) Size() (bytes, names int) {
	// A string, and what the allocator rounds up to.
	const perName = 24
	for i := range p.rules {
		r := &p.rules[i]
		if l := r.named(); l != nil {
			names += len(l.literals)
			bytes += perName * len(l.literals)
			for _, name := range l.literals {
				bytes += len(name)
			}
			bytes += l.patterns.Len()
		}
		for _, name := range r.excluded() {
			bytes += perName + len(name)
		}
	}
	return bytes, names
}
