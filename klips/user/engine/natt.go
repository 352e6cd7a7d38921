package engine

import (
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
	"github.com/klips-go/ipsec/klips/user/udpencap"
)

// toPeer sets the destination of a packet in transport mode through a NAT to the SA's
// destination, as KLIPS does. The packet's own destination, for which the eroute was
// made, may be an address that only the peer knows.
func toPeer(b *packet.Buffer, h *packet.Header, chain []*sadb.SA) {
	if sa := chain[0]; readdresses(h, sa) {
		udpencap.Readdress(b, h, sa.ID.Dst)
	}
}

// readdresses reports whether toPeer changes the destination of a packet, for the SA that
// begins its group.
func readdresses(h *packet.Header, sa *sadb.SA) bool {
	return sa.ID.Proto == klips.ProtoESP && sa.NATT.Type != klips.NATTNone &&
		h.Dst != sa.ID.Dst && h.Dst.BitLen() == sa.ID.Dst.BitLen()
}
