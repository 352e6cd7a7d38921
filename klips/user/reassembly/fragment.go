package reassembly

import (
	"encoding/binary"
	"math"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// A fragment is a received fragment. Its slices are parts of the packet.
type fragment struct {
	key
	head    []byte // the headers of the whole datagram, without a Fragment header
	off     int    // offset of payload in that of the whole datagram, in bytes
	more    bool
	payload []byte
	ecn     uint8
}

// parse parses the fragment p with header h. For IPv6 it removes the Fragment header,
// so it changes p. It returns false for an invalid fragment (RFC 8200 section 4.5): its
// length is not a multiple of 8 although others follow, it is empty, or it ends beyond
// the longest datagram.
func parse(p []byte, h *packet.Header) (f fragment, ok bool) {
	if f.key, ok = keyOf(p, h); !ok {
		return f, false
	}
	f.ecn = h.TOS & 3
	if h.Version == 4 {
		f.head, f.payload = p[:h.Len], p[h.Len:h.Total]
		f.off, f.more = h.FragOff, p[6]&0x20 != 0
	} else {
		at, next, _ := fragmentHeader(p[:h.Total])
		w := binary.BigEndian.Uint16(p[at+2:])
		f.head, f.payload = p[:at], p[at+8:h.Total]
		f.off, f.more = int(w&^7), w&1 != 0
		p[next] = p[at]
	}
	n := len(f.payload)
	return f, n > 0 && (!f.more || n%8 == 0) && f.off+n <= math.MaxUint16
}

// keyOf returns the key of the fragment p of header h. false: it has no Fragment header.
func keyOf(p []byte, h *packet.Header) (k key, ok bool) {
	k = key{src: h.Src, dst: h.Dst}
	if h.Version == 4 {
		k.id, k.proto = uint32(h.ID), h.Proto
		return k, true
	}
	at, _, ok := fragmentHeader(p[:h.Total])
	if ok {
		k.id = binary.BigEndian.Uint32(p[at+4:])
	}
	return k, ok
}

// fragmentHeader returns the offset of the Fragment header of an IPv6 packet, and of
// the next header field that names it.
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
