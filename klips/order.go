package klips

import (
	"cmp"
	"encoding/binary"
	"math/bits"

	"github.com/klips-go/ipsec/klips/internal/arrange"
)

// Buckets is the number of hash buckets of the SA table. Listings have them in
// ascending order.
const Buckets = 257

// Bucket returns the hash bucket of an SA, 0 to Buckets-1: the sum of SPI, IPv4
// destination and protocol number, wrapping at 32 bits, modulo 257. SPI and destination
// are in network byte order, read as little-endian numbers. An IPv6 destination counts
// as zero, as in KLIPS.
func Bucket(id SAID) int {
	sum := bits.ReverseBytes32(uint32(id.SPI)) + uint32(id.Proto)
	if id.Dst.Is4() {
		a := id.Dst.As4()
		sum += binary.LittleEndian.Uint32(a[:])
	}
	return int(sum % Buckets)
}

// SortSAs sorts SAs into the order of the listings: by bucket. SAs of one bucket keep
// their order, which must be newest first.
func SortSAs(sas []SA) {
	arrange.Stable(sas, func(a, b SA) int {
		return cmp.Compare(Bucket(a.ID), Bucket(b.ID))
	})
}

// CompareEroutes compares eroutes in the order of listings: by family (IPv4 first),
// source and destination address, protocol, source and destination port. If these are
// equal, the longer source mask comes first, then the longer destination mask. So of
// two comparable selectors the more specific one is first. Zero is returned only for
// equal selectors.
func CompareEroutes(a, b Eroute) int { return CompareSelectors(a.Selector, b.Selector) }

// CompareSelectors is [CompareEroutes] for the selectors alone.
func CompareSelectors(a, b Selector) int {
	return cmp.Or(
		a.Src.Addr().Compare(b.Src.Addr()),
		a.Dst.Addr().Compare(b.Dst.Addr()),
		cmp.Compare(a.Proto, b.Proto),
		cmp.Compare(a.SrcPort, b.SrcPort),
		cmp.Compare(a.DstPort, b.DstPort),
		cmp.Compare(b.Src.Bits(), a.Src.Bits()),
		cmp.Compare(b.Dst.Bits(), a.Dst.Bits()),
	)
}
