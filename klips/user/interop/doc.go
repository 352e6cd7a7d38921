// Package interop has no code but tests of the transforms together: they open
// what a KLIPS kernel put on the wire, and exchange packets with another
// implementation of ESP and AH, that of scapy.
package interop
