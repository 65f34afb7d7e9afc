// Package scope says what is watched: which namespaces, which kinds of
// workload, and, by their labels, which sources. It reads selectors as users
// write them, old forms included.
//
// It does no watching: that is package engine's part. Which of the sources that
// are watched reload a workload is package policy's to say.
package scope
