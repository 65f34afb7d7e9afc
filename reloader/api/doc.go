// Package api serves health and metrics of a process over plain HTTP, for
// probes and scrapers. It shows no content and no names of sources.
package api
