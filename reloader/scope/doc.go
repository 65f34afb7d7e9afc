// Package scope describes which namespaces, kinds of workload and, by label, which
// sources are watched. It parses selectors as users write them, old forms included.
//
// Package engine does the watching. Package policy decides which of the watched
// sources reload a workload.
package scope
