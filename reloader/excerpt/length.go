package excerpt

// Length returns how many bytes the names and strings of an object take
// together, without quotes and escapes. A member with the name except does not
// count. The length of other values is 0.
func Length(object []byte, except string) int {
	t := taker{text: object, decoder: newDecoder(object), budget: len(object)}
	if !t.open('{') {
		return 0
	}
	length := 0
	for t.more('}') {
		name, _ := t.name()
		counts, size := string(name) != except, len(name)
		if t.decoder.PeekKind() != '"' {
			t.skip()
		} else {
			value, _ := t.name()
			size += len(value)
		}
		if counts {
			length += size
		}
	}
	return length
}
