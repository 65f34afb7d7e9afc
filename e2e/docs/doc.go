// Package docs walks through the pages that tell how to install the product and
// how to move over to it: what stands in a block of shell commands is run, on the
// local cluster, and what stands in a block of text after it has to be in the
// output. So the pages cannot say what is not so.
//
// Beside the pages it tests what they promise of the chart as installed: that a
// values file with everything switched on works, that the rights are enough for it,
// and that a release for some namespaces is asked about no others.
//
// The local cluster differs from others in one thing that the commands have to be
// told: its pods share a network. The kubectl and helm that the pages find see to
// that.
package docs
