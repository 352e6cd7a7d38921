package engine

import (
	"encoding/binary"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// fragment cuts the packet in b, with header h, into pieces of at most mtu bytes (RFC 791
// section 3.2, RFC 8200 section 4.5), and calls send with each piece in turn. The pieces
// are made in place: each header overwrites the end of the piece before. So send must not
// keep a piece. id is the identification of IPv6 fragments; IPv4 fragments have that of
// the packet. b must not be used afterwards. A packet that cannot be cut is sent whole.
func fragment(b *packet.Buffer, h *packet.Header, mtu int, id uint32, send func(*packet.Buffer)) {
	head, extra := h.Len, 0
	if h.Version == 6 {
		if h.Frag {
			send(b) // it has a fragment header already
			return
		}
		// All headers that ParseIP has parsed go into each fragment. Those before a
		// destination options header for the last hop need not, but may.
		extra = 8
	}
	room := (mtu - head - extra) &^ 7
	if room < 8 || !b.Push(extra) {
		send(b)
		return
	}
	p := b.Bytes()
	if extra > 0 {
		copy(p, p[extra:extra+head])
	}
	head += extra
	var hdr [packet.Headroom]byte
	if head > len(hdr) {
		b.Pull(extra)
		send(b)
		return
	}
	if extra > 0 {
		f := p[head-extra : head]
		f[0], f[1] = p[h.ProtoOff], 0
		binary.BigEndian.PutUint32(f[4:], id)
		p[h.ProtoOff] = packet.ProtoFragment
	}
	n := copy(hdr[:], p[:head])
	payload := len(p) - head
	end := b.End
	base := b.Off
	for at := 0; at < payload; at += room {
		size := min(room, payload-at)
		more := at+size < payload
		b.Off, b.End = base+at, base+at+head+size
		q := b.Bytes()
		copy(q, hdr[:n])
		if h.Version == 4 {
			// A fragment of a fragment keeps its offset and its MF bit.
			f := binary.BigEndian.Uint16(hdr[6:]) & 0x2000
			if more {
				f = 0x2000
			}
			binary.BigEndian.PutUint16(q[6:], f|uint16((h.FragOff+at)/8))
		} else {
			f := uint16(at)
			if more {
				f |= 1
			}
			binary.BigEndian.PutUint16(q[head-6:], f)
		}
		packet.SetTotal(q, head+size)
		packet.FixChecksum(q)
		send(b)
	}
	b.End = end
}
