package excerpt

// Field selects a part of one JSON value. At most one of Members, Each and
// Keys is set; if none is, the value is a scalar and is taken as it stands.
//
// A null is taken for a value that is not there, whatever the Field.
type Field struct {
	// Members are the members of an object that are taken; at most 64.
	Members []Member
	// Each applies to every element of an array. Elements without a selected part
	// are left out.
	Each *Field
	// Keys says which members of an object are taken. Their values are scalars.
	// An object that has only other members is taken as an empty one.
	Keys func(key []byte) bool
	// Cost is what an element of an array, or a member that Keys takes, counts
	// against the budget besides its length: about the size in memory of what it
	// is decoded into.
	Cost int
	// Keep also returns the whole value unchanged.
	Keep bool
	// whole is set if nothing is taken of the value, whatever it is.
	whole bool
}

// Member is a Field with its name.
type Member struct {
	Name string
	Field
}

// Scalar returns a Member that is taken as it stands.
func Scalar(name string) Member { return Member{Name: name} }

// Object returns a Member that is an object.
func Object(name string, members ...Member) Member {
	return Member{Name: name, Field: Field{Members: members}}
}

// List returns a Member that is an array of objects, with the Cost of each.
func List(name string, cost int, members ...Member) Member {
	return Member{Name: name, Field: Field{Each: &Field{Members: members, Cost: cost}}}
}

// Map returns a Member that is an object of scalars, with the Cost of each that
// is taken.
func Map(name string, cost int, keys func(key []byte) bool) Member {
	return Member{Name: name, Field: Field{Keys: keys, Cost: cost}}
}

// Kept returns m with its Field's Keep set.
func Kept(m Member) Member {
	m.Keep = true
	return m
}

// Whole returns a Member that may be any value. It is kept and nothing is taken
// of it.
func Whole(name string) Member { return Member{Name: name, Field: Field{Keep: true, whole: true}} }
