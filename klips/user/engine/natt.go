package engine

import (
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
	"github.com/klips-go/ipsec/klips/user/udpencap"
)

// toPeer makes the SA's destination that of a packet in transport mode through a
// NAT, as KLIPS does: the address that the eroute was written for may be one
// that only the peer knows.
func toPeer(b *packet.Buffer, h *packet.Header, chain []*sadb.SA) {
	sa := chain[0]
	if sa.ID.Proto == klips.ProtoESP && sa.NATT.Type != klips.NATTNone &&
		h.Dst != sa.ID.Dst && h.Dst.BitLen() == sa.ID.Dst.BitLen() {
		udpencap.Readdress(b, h, sa.ID.Dst)
	}
}
