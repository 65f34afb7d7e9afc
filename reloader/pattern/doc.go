// Package pattern knows the regular expressions of named lists: which of them
// can be used, what they match, what matching costs, and whether any name of an
// object can match at all. It is pure.
//
// Expressions come from tenants, so all of it is bounded. A Set is a list as
// text: small, shared by equal lists, compared with ==. It becomes a Matcher,
// which is large, only where names are matched; a cache of Matchers bounds
// their size by Matcher.Bytes. The expressions are Go's, whose time grows with
// the length of the name times the size of the program, never faster: Cost is
// that product.
//
// It does not own the names in a list (package policy), nor when a list is matched
// and how results are cached (package index).
package pattern
