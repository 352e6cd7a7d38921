package engine

import (
	"encoding/binary"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/internal/icv"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
	"github.com/klips-go/ipsec/klips/user/udpencap"
)

// foresight computes ICVs of the next packet in a batch together with those of the current
// one, because two take the time of one. It only guesses that the next packet is of the
// same SA. Its order, its checks and its counters do not depend on the guess. What is
// computed is only used in the next packet's turn, before anything can change its bytes.
type foresight struct {
	next    *packet.Buffer // after the current packet; nil: none
	of      *packet.Buffer // the packet whose ICVs are in esp and ah; nil: none
	esp, ah icv.Ahead
	h       packet.Header // of next, if it is in esp or ah
}

// turn begins with a packet.
func (f *foresight) turn(b, next *packet.Buffer) {
	if f.of != nil && f.of != b {
		f.forget()
	}
	f.next = next
}

// forget makes it impossible that ICVs are used for a later packet in the same memory. It
// also lets go of SAs, whose keys are overwritten when nothing refers to them.
func (f *foresight) forget() { *f = foresight{} }

// look reports whether an ICV of the packet after b can be computed, and parses its header
// into f.h.
func (f *foresight) look(b *packet.Buffer) bool {
	if f.next == nil || f.of == b { // the current packet's ICVs are here, or were
		return false
	}
	var ok bool
	f.h, ok = packet.ParseIP(f.next.Bytes())
	if !ok || f.h.Frag {
		return false
	}
	f.of = f.next
	return true
}

// nextAH returns the packet after that of c, with its header, if it seems to be of the
// same AH SA; otherwise nil.
func (f *foresight) nextAH(c *inPacket, sa *sadb.SA) (*packet.Buffer, *packet.Header) {
	if !f.look(c.b) || f.h.Proto != packet.ProtoAH || f.h.Dst != sa.ID.Dst {
		return nil, nil
	}
	a := f.next.Bytes()[f.h.Len:f.h.Total]
	if len(a) < 8 || binary.BigEndian.Uint32(a[4:]) != uint32(sa.ID.SPI) {
		return nil, nil
	}
	return f.next, &f.h
}

// nextESP returns what follows the IP header of the packet after that of c, or its UDP
// header or AH, if it seems to be of the same ESP SA; otherwise nil.
func (f *foresight) nextESP(c *inPacket, sa *sadb.SA) []byte {
	if !f.look(c.b) || f.h.Dst != sa.ID.Dst {
		return nil
	}
	e, proto := f.next.Bytes()[f.h.Len:f.h.Total], f.h.Proto
	skip := 0
	switch {
	case proto == packet.ProtoAH && len(e) >= 2:
		skip, proto = (int(e[1])+2)*4, e[0]
	case proto == packet.ProtoUDP && c.natt != klips.NATTNone && len(e) >= 6 && int(binary.BigEndian.Uint16(e[4:])) == len(e):
		skip, proto = udpencap.Overhead(c.natt), packet.ProtoESP
	}
	if proto != packet.ProtoESP || len(e) < skip+4 || binary.BigEndian.Uint32(e[skip:]) != uint32(sa.ID.SPI) {
		return nil
	}
	return e[skip:]
}
