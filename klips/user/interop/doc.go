// Package interop has only tests of all transforms together: they open packets of a
// KLIPS kernel, and exchange packets with another implementation of ESP and AH, scapy.
package interop
