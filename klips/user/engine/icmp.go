package engine

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// icmpPerSecond limits how many ICMP errors a stack sends.
const icmpPerSecond = 1000

// A gate allows a number of events per second.
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

// An icmpWriter sends ICMP errors about packets that were read from a device. The host
// sends them from an address of its own (RFC 1812 section 4.3.2.4), to its own programs
// and to hosts behind it.
type icmpWriter struct {
	buf [maxICMP6]byte
}

// Lengths of the messages without IP headers: within 576 bytes in IPv4 (RFC 1812 section
// 4.3.2.3), within the minimum MTU in IPv6 (RFC 4443 section 2.4 (c)).
const (
	maxICMP4 = 576 - 20
	maxICMP6 = minMTU6 - 40
)

// tooBig reports to the sender of packet p that packets may have at most mtu bytes.
func (w *icmpWriter) tooBig(e *Engine, p []byte, h *packet.Header, mtu int) {
	if h.Version == 4 {
		w.write(e, p, h, icmpUnreachable, icmpFragNeeded, uint32(mtu)&0xffff)
		return
	}
	w.write(e, p, h, icmp6TooBig, 0, uint32(mtu))
}

// reject reports to the sender of packet p that it is administratively prohibited.
func (w *icmpWriter) reject(e *Engine, p []byte, h *packet.Header) {
	if h.Version == 4 {
		w.write(e, p, h, icmpUnreachable, icmpAdminProhibit, 0)
		return
	}
	w.write(e, p, h, icmp6Unreachable, icmp6AdminProhibit, 0)
}

// answerable applies the rules of RFC 1122 section 3.2.2 and RFC 4443 section 2.4. No
// ICMP error is sent about an ICMP error, about a fragment other than the first, or about
// a packet that is not from one host to one host.
func answerable(p []byte, h *packet.Header) bool {
	switch {
	case h.FragOff != 0, h.Dst.IsMulticast(), h.Src.IsMulticast(), h.Src.IsUnspecified(), h.Src.IsLoopback():
		return false
	case h.Version == 4 && h.Dst.As4() == [4]byte{255, 255, 255, 255}:
		return false
	case h.Total <= h.Len && (h.Version == 4 && h.Proto == packet.ProtoICMP || h.Version == 6 && h.Proto == packet.ProtoICMPv6):
		return false
	}
	return !isICMPError(p, h)
}

// isICMPError reports whether packet p with header h is an ICMP error, or has an ICMP
// type that may be an error.
func isICMPError(p []byte, h *packet.Header) bool {
	if h.FragOff != 0 || h.Total <= h.Len {
		return false
	}
	typ := p[h.Len]
	switch {
	case h.Version == 4 && h.Proto == packet.ProtoICMP:
		switch typ {
		case 0, 8, 13, 14, 15, 16, 17, 18: // queries and their answers
			return false
		}
		return true
	case h.Version == 6 && h.Proto == packet.ProtoICMPv6:
		return typ < 128 // RFC 4443 section 2.1
	}
	return false
}

func (w *icmpWriter) write(e *Engine, p []byte, h *packet.Header, typ, code uint8, rest uint32) {
	if !answerable(p, h) || !e.icmpGate.open(e.now()) {
		return
	}
	m, tos := w.buf[:maxICMP6], uint8(0)
	if h.Version == 4 {
		// RFC 1812 section 4.3.2.5: the packet's TOS at the highest precedence but one.
		m, tos = w.buf[:maxICMP4], h.TOS&0x1e|0xc0
	}
	m = m[:8+copy(m[8:], p[:h.Total])]
	clear(m[:8])
	m[0], m[1] = typ, code
	binary.BigEndian.PutUint32(m[4:], rest)
	_ = e.host.SendICMP(h.Src, tos, m)
}
