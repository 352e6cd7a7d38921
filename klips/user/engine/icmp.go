package engine

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// icmpPerSecond limits the ICMP errors of a stack.
const icmpPerSecond = 1000

// icmpTTL is the TTL of ICMP errors.
const icmpTTL = 64

// A gate lets so many events through per second.
type gate struct {
	second atomic.Int64
	n      atomic.Int64
}

func (g *gate) open(now int64) bool {
	s := now / 1e9
	if old := g.second.Load(); old != s && g.second.CompareAndSwap(old, s) {
		g.n.Store(0)
	}
	return g.n.Add(1) <= icmpPerSecond
}

// ICMP types and codes used here (RFC 792, RFC 1812 section 5.2.7.1, RFC 4443).
const (
	icmpUnreachable   = 3
	icmpFragNeeded    = 4  // code
	icmpAdminProhibit = 13 // code

	icmp6Unreachable   = 1
	icmp6TooBig        = 2
	icmp6AdminProhibit = 1 // code of icmp6Unreachable
)

// An icmpWriter answers packets that came out of a device by writing ICMP errors
// back into it. The error's source is the destination of the packet: a packet
// from one of the host's own addresses would be dropped as a martian.
type icmpWriter struct {
	link Link
	buf  [linkOffset + 1280]byte
	out  [1][]byte
}

// linkOffset is the room that Link.Write wants in front of a packet.
const linkOffset = 16

// tooBig tells the sender of packet p that mtu bytes would have been the most.
func (w *icmpWriter) tooBig(e *Engine, p []byte, h *packet.Header, mtu int) {
	if h.Version == 4 {
		if h.Proto != packet.ProtoICMP {
			w.write(e, p, h, icmpUnreachable, icmpFragNeeded, uint32(mtu)&0xffff)
		}
		return
	}
	w.write(e, p, h, icmp6TooBig, 0, uint32(mtu))
}

// reject tells the sender of packet p that it is administratively prohibited.
func (w *icmpWriter) reject(e *Engine, p []byte, h *packet.Header) {
	if h.Version == 4 {
		w.write(e, p, h, icmpUnreachable, icmpAdminProhibit, 0)
		return
	}
	w.write(e, p, h, icmp6Unreachable, icmp6AdminProhibit, 0)
}

// answerable applies the rules of RFC 1122 section 3.2.2 and RFC 4443 section
// 2.4: no error about an error, a later fragment, or what was not sent by one
// host to one host.
func answerable(p []byte, h *packet.Header) bool {
	switch {
	case h.FragOff != 0, h.Dst.IsMulticast(), h.Src.IsMulticast(), h.Src.IsUnspecified(), h.Src.IsLoopback():
		return false
	case h.Version == 4 && h.Dst.As4() == [4]byte{255, 255, 255, 255}:
		return false
	case h.Version == 4 && h.Proto == packet.ProtoICMP:
		if h.Total < h.Len+1 {
			return false
		}
		switch p[h.Len] {
		case 0, 8, 13, 14, 15, 16, 17, 18: // queries and their answers
			return true
		}
		return false
	case h.Version == 6 && h.Proto == packet.ProtoICMPv6:
		return h.Total > h.Len && p[h.Len] >= 128
	}
	return true
}

func (w *icmpWriter) write(e *Engine, p []byte, h *packet.Header, typ, code uint8, rest uint32) {
	if !answerable(p, h) || !e.icmpGate.open(e.now()) {
		return
	}
	m := w.buf[linkOffset:]
	var n int
	if h.Version == 4 {
		// RFC 1812 section 4.3.2.3: as much of the packet as fits 576 bytes.
		n = 28 + copy(m[28:576], p[:h.Total])
		q := m[:n]
		clear(q[:28])
		// RFC 1812 section 4.3.2.5: the packet's TOS at the highest precedence
		// but one.
		q[0], q[1], q[8], q[9] = 0x45, h.TOS&0x1e|0xc0, icmpTTL, packet.ProtoICMP
		binary.BigEndian.PutUint16(q[4:], e.nextID())
		src, dst := h.Dst.As4(), h.Src.As4()
		copy(q[12:], src[:])
		copy(q[16:], dst[:])
		packet.SetTotal(q, n)
		packet.FixChecksum(q)
		c := q[20:]
		c[0], c[1] = typ, code
		binary.BigEndian.PutUint32(c[4:], rest)
		binary.BigEndian.PutUint16(c[2:], ^packet.Fold(packet.Sum(c, 0)))
	} else {
		// RFC 4443 section 2.4 (c): within the minimum MTU.
		n = 48 + copy(m[48:minMTU6], p[:h.Total])
		q := m[:n]
		clear(q[:48])
		q[0], q[6], q[7] = 0x60, packet.ProtoICMPv6, icmpTTL
		src, dst := h.Dst.As16(), h.Src.As16()
		copy(q[8:], src[:])
		copy(q[24:], dst[:])
		packet.SetTotal(q, n)
		c := q[40:]
		c[0], c[1] = typ, code
		binary.BigEndian.PutUint32(c[4:], rest)
		pseudo := packet.Sum(q[8:40], uint64(len(c))+packet.ProtoICMPv6)
		binary.BigEndian.PutUint16(c[2:], ^packet.Fold(packet.Sum(c, pseudo)))
	}
	w.out[0] = w.buf[:linkOffset+n]
	_, _ = w.link.Write(w.out[:], linkOffset)
}
