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
	sa := chain[0]
	if sa.ID.Proto == klips.ProtoESP && sa.NATT.Type != klips.NATTNone &&
		h.Dst != sa.ID.Dst && h.Dst.BitLen() == sa.ID.Dst.BitLen() {
		udpencap.Readdress(b, h, sa.ID.Dst)
	}
}
