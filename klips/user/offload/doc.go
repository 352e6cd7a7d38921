// Package offload turns bundles of packets into packets and back. A TUN device passes
// several packets of one flow in one system call, as a bundle with a virtio header (OASIS
// virtio 1.1 section 5.1.6): a [Splitter] makes packets of what is read (generic segmentation
// offload), and a [Merger] makes bundles for what is written (generic receive offload).
//
// Splitting a bundle of a Merger gives the original packets, byte for byte and in their
// order: packets are merged only if the kernel recreates the same headers. This is stricter
// than the kernel's own offload, and than package tun of WireGuard, which allows
// windows, flow labels and identifications to differ; tests compare the two. Packets of one
// flow, and packets between the same addresses that cannot be merged, keep their order;
// other flows may be reordered, as in the kernel.
//
// The package has no file descriptors. It neither locks nor allocates per packet.
package offload
