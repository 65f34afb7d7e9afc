// Package api serves health and metrics of a process over plain HTTP, for
// probes and scrapers, and, on an address of their own, profiles. It shows no
// content and no names of sources.
package api
