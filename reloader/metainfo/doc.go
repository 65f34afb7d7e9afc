// Package metainfo writes the ConfigMap in which tools find the build, the flags and
// the Deployment of the engine. The caller must not put secrets into an Info.
package metainfo
