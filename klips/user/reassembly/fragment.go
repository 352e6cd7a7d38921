package reassembly

import (
	"encoding/binary"
	"math"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// A fragment is one as it came. Its slices are those of the packet.
type fragment struct {
	key
	head    []byte // the headers that the whole has, too, without a Fragment header
	off     int    // of payload in that of the whole, in bytes
	more    bool
	payload []byte
	ecn     uint8
}

// parse reads the fragment p of header h. For IPv6 it takes the Fragment header out, so
// it changes p. false: it cannot be one of a datagram (RFC 8200 section 4.5): it ends
// within 8 bytes where others follow, is empty, or reaches beyond the longest datagram.
func parse(p []byte, h *packet.Header) (f fragment, ok bool) {
	f.src, f.dst, f.ecn = h.Src, h.Dst, h.TOS&3
	if h.Version == 4 {
		f.id, f.proto = uint32(h.ID), h.Proto
		f.head, f.payload = p[:h.Len], p[h.Len:h.Total]
		f.off, f.more = h.FragOff, p[6]&0x20 != 0
	} else {
		at, next, ok := fragmentHeader(p[:h.Total])
		if !ok {
			return f, false
		}
		x := p[at : at+8]
		w := binary.BigEndian.Uint16(x[2:])
		f.id = binary.BigEndian.Uint32(x[4:])
		f.head, f.payload = p[:at], p[at+8:h.Total]
		f.off, f.more = int(w&^7), w&1 != 0
		p[next] = x[0]
	}
	n := len(f.payload)
	return f, n > 0 && (!f.more || n%8 == 0) && f.off+n <= math.MaxUint16
}

// fragmentHeader returns the offset of the Fragment header of an IPv6 packet, and that of
// the byte that names it.
func fragmentHeader(p []byte) (at, next int, ok bool) {
	at, next = 40, 6
	for {
		if at+8 > len(p) {
			return 0, 0, false
		}
		switch p[next] {
		case packet.ProtoFragment:
			return at, next, true
		case packet.ProtoHopByHop, packet.ProtoRouting, packet.ProtoDstOpts:
			at, next = at+(int(p[at+1])+1)*8, at
		default:
			return 0, 0, false
		}
	}
}
