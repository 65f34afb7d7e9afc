// Package lint checks manifests in files, as admission would. It reads YAML and
// JSON from files, directories and standard input, hands each object to package
// review, and prints what review found.
//
// It owns the splitting of files into documents, the positions of findings, and
// the two output formats. The rules are those of package policy; the flags are
// in cmd/reloader.
package lint
