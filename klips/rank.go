package klips

import (
	"math/bits"
	"net/netip"
)

// Rank returns the rank of a selector, below 1<<31. Of the eroutes that match a packet, KLIPS
// takes the one with the greatest rank. It depends only on the selector: a new eroute moves no
// other.
//
// Of all eroutes that match a packet, KLIPS takes those that no other refines, and of
// these the one with the greatest key. An eroute that refines another and matches the
// same packet has the greater key, or an equal key and the longer mask, because the
// other has zeros where its mask does. So the order by key and mask is KLIPS' order for
// every packet.
//
// Only eroutes that match the same packet are compared. Of their source addresses, one
// is the beginning of the other with zeros behind it. The greater one is then the one
// with more significant bits, and the same is true for the other parts of the key. Of equal
// ranks, the older eroute comes first.
func (s Selector) Rank() uint32 {
	const lengths = 128 + 1
	rank := significant(s.Src.Addr())
	rank = rank*lengths + significant(s.Dst.Addr())
	for _, given := range [...]bool{s.Proto != 0, s.SrcPort != 0, s.DstPort != 0} {
		rank *= 2
		if given {
			rank++
		}
	}
	return rank*(2*lengths) + uint32(s.Src.Bits()+s.Dst.Bits())
}

// significant returns the number of bits of an address up to its last one bit.
func significant(a netip.Addr) uint32 {
	b := a.AsSlice()
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0 {
			return uint32(8*(i+1) - bits.TrailingZeros8(b[i]))
		}
	}
	return 0
}
