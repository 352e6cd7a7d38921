package engine

import (
	"encoding/binary"
	"log/slog"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// Routers report to this host that a packet was too long for their next link. If an SA
// has sent the packet, the engine stores the MTU for the SA (RFC 4301 section 8.2.1).
// Senders of longer packets are informed in turn (mtu.go).

// pathMTUAge is how long the MTU is stored. After that longer packets are tried again
// (RFC 1191 section 6.3, RFC 8201 section 4).
const pathMTUAge = 10 * time.Minute

// minMTU4 is the smallest MTU that is accepted over IPv4. Links with less are not in use.
// A report of less is an attempt to make this host send many small packets.
const minMTU4 = 552

// A pathMTU is the path MTU of an SA's packets, and until when it is valid.
type pathMTU struct {
	mtu   int
	until int64
}

// limit returns how long the packets that a group sends may be.
func (w *outWorker) limit(group []*sadb.SA) int {
	return limitBy(group[len(group)-1], w.att.wire, w.now)
}

// limitBy returns how long packets with outermost SA sa may be that leave by a wire.
func limitBy(sa *sadb.SA, w Wire, now int64) int { return limit(sa, linkMTU(sa, w), now) }

// limit returns how long packets with outermost SA sa may be on a link with MTU link.
func limit(sa *sadb.SA, link int, now int64) int {
	if mtu := knownMTU(sa, now); mtu != 0 {
		return min(link, mtu)
	}
	return link
}

// knownMTU returns the path MTU of an SA, 0 if it is not known.
func knownMTU(sa *sadb.SA, now int64) int {
	if p := sa.Data.(*states).pathMTU.Load(); p != nil && now < p.until {
		return p.mtu
	}
	return 0
}

// keepPathMTU copies the path MTU of an SA, with its age, to the SA that replaces it, unless
// that one has learned a path MTU already.
func keepPathMTU(old, sa *sadb.SA) {
	if p := old.Data.(*states).pathMTU.Load(); p != nil {
		sa.Data.(*states).pathMTU.CompareAndSwap(nil, p)
	}
}

// isICMP reports whether a packet that has arrived is ICMP or ICMPv6 without extension
// headers. (A [Receiver] returns none with extension headers.)
func isICMP(p []byte) bool {
	return len(p) >= 20 && (p[0]>>4 == 4 && p[9] == packet.ProtoICMP || p[0]>>4 == 6 && p[6] == packet.ProtoICMPv6)
}

// hear processes an ICMP or ICMPv6 message that reports a packet as too long. It returns
// whether p is such a message. It accepts the message only if it quotes a packet that an
// SA can have sent.
func (e *Engine) hear(p []byte, now int64) bool {
	h, ok := packet.ParseIP(p)
	if !ok || h.Frag || h.Total < h.Len+8 {
		return false
	}
	m := p[h.Len:h.Total]
	sum, mtu := uint64(0), 0
	switch {
	case h.Version == 4 && m[0] == icmpUnreachable && m[1] == icmpFragNeeded:
		mtu = int(binary.BigEndian.Uint16(m[6:]))
	case h.Version == 6 && m[0] == icmp6TooBig:
		mtu = int(min(binary.BigEndian.Uint32(m[4:]), 1<<16))
		sum = packet.Sum(p[8:40], uint64(len(m))+packet.ProtoICMPv6)
	default:
		return false
	}
	if packet.Fold(packet.Sum(m, sum)) != 0xffff {
		return true
	}
	if q, ok := parseQuoted(m[8:]); ok {
		e.learn(&q, mtu, now)
	}
	return true
}

// A quoted packet is the beginning of a packet that was too long.
type quoted struct {
	packet.Header
	size int    // of the whole packet
	rest []byte // the quoted bytes after its IP header
}

// parseQuoted parses the beginning of a packet, which may end anywhere. It overwrites the
// length in the header.
func parseQuoted(p []byte) (q quoted, ok bool) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		q.size = int(binary.BigEndian.Uint16(p[2:]))
	case len(p) >= 40 && p[0]>>4 == 6:
		q.size = 40 + int(binary.BigEndian.Uint16(p[4:]))
	default:
		return q, false
	}
	if q.size > len(p) {
		packet.SetTotal(p, len(p))
	}
	q.Header, ok = packet.ParseIP(p)
	if !ok || q.FragOff != 0 {
		return q, false
	}
	q.rest = p[q.Len:q.Total]
	return q, true
}

// name returns the SAID and the sequence number of the outermost SA of a quoted packet,
// and the ports of its UDP encapsulation. The ports are 0 if it has none.
func (q *quoted) name() (id klips.SAID, seq uint32, sport, dport uint16, ok bool) {
	id = klips.SAID{Dst: q.Dst, Proto: klips.Proto(q.Proto)}
	b := q.rest
	if q.Proto == packet.ProtoUDP && len(b) >= 16 {
		id.Proto = klips.ProtoESP
		sport, dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		b = b[8:]
		if binary.BigEndian.Uint64(b) == 0 { // the older marker in front of ESP
			b = b[8:]
		}
	}
	if id.Proto == klips.ProtoAH && len(b) >= 4 {
		b = b[4:]
	}
	if id.Proto != klips.ProtoESP && id.Proto != klips.ProtoAH || len(b) < 8 {
		return id, 0, 0, 0, false
	}
	id.SPI = klips.SPI(binary.BigEndian.Uint32(b))
	return id, binary.BigEndian.Uint32(b[4:]), sport, dport, true
}

// sender returns the SA that can have sent a quoted packet; nil: none can.
func (e *Engine) sender(q *quoted) *sadb.SA {
	id, seq, sport, dport, ok := q.name()
	if !ok || !q.DF || !e.host.IsLocal(q.Src) {
		return nil // without DF a router would have fragmented it
	}
	sa := e.sas.Lookup(id)
	if sa == nil || sa.Dir != klips.Outbound || len(sa.Chain()) != 1 {
		return nil
	}
	if inUDP := sa.NATT.Type != klips.NATTNone; inUDP != (q.Proto == packet.ProtoUDP) {
		return nil
	} else if n := sa.NATT.WithPorts(); inUDP && (n.SPort != sport || n.DPort != dport) {
		return nil
	}
	// A packet has the low half of a 64-bit number.
	last := sa.Seq.Load()
	if ago := uint64(uint32(last) - seq); ago >= last || ago >= 1<<31 {
		return nil
	}
	return sa
}

// learn stores the path MTU for the SA that has sent a quoted packet.
func (e *Engine) learn(q *quoted, mtu int, now int64) {
	sa := e.sender(q)
	if sa == nil {
		return
	}
	switch {
	case q.Version == 6:
		mtu = max(mtu, minMTU6) // RFC 8201 section 4
	case mtu == 0:
		mtu = max(plateau(q.size), minMTU4)
	default:
		mtu = max(mtu, minMTU4)
	}
	p := &sa.Data.(*states).pathMTU
	if mtu >= min(q.size, limit(sa, q.size, now)) {
		return // this is known already
	}
	p.Store(&pathMTU{mtu, now + int64(pathMTUAge)})
	if e.trace.on(klips.DebugTunnel, allBits) {
		e.trace.line("tunnel", "a smaller path MTU", slog.String("said", sa.ID.String()), slog.Int("mtu", mtu))
	}
}

// plateau returns the assumed MTU of a path for which a packet was too long, if the
// router does not report its MTU (RFC 1191 section 7.1).
func plateau(size int) int {
	for _, mtu := range [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006} {
		if mtu < size {
			return mtu
		}
	}
	return minMTU4
}
