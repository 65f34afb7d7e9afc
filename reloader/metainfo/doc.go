// Package metainfo writes the ConfigMap in which tools find what runs: the
// build, the flags and the Deployment of the engine. It holds no secrets; that
// is for whoever fills an Info to see to.
package metainfo
