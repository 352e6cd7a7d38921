package engine

import (
	"encoding/binary"
	"log/slog"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// Routers tell this host that a packet was too long for their next link. Where that was a
// packet of an SA, it is kept for the SA how long packets may be (RFC 4301 section 8.2.1),
// and those who send longer ones are told in their turn (mtu.go).

// pathMTUAge is how long that is kept; then longer packets are tried again (RFC 1191
// section 6.3, RFC 8201 section 4).
const pathMTUAge = 10 * time.Minute

// minMTU4 is the least that is believed over IPv4. Links below that are not in use; who
// claims one wants others to send many small packets.
const minMTU4 = 552

// A pathMTU is what is known of the path of an SA's packets.
type pathMTU struct {
	mtu   int
	until int64
}

// limit is how long what a group sends may be on a link.
func (w *outWorker) limit(group []*sadb.SA) int {
	return limit(group[len(group)-1], w.att.wire.MTU(), w.now)
}

// limit is how long packets may be whose outermost SA is sa, on a link of some MTU.
func limit(sa *sadb.SA, link int, now int64) int {
	if mtu := knownMTU(sa, now); mtu != 0 {
		return min(link, mtu)
	}
	return link
}

// knownMTU is the path MTU of an SA, 0 where none is known.
func knownMTU(sa *sadb.SA, now int64) int {
	if p := sa.Data.(*states).pathMTU.Load(); p != nil && now < p.until {
		return p.mtu
	}
	return 0
}

// keepPathMTU lets an SA that replaces another one know of their path what that knew, with
// its age, unless it has learned more already.
func keepPathMTU(old, sa *sadb.SA) {
	if p := old.Data.(*states).pathMTU.Load(); p != nil {
		sa.Data.(*states).pathMTU.CompareAndSwap(nil, p)
	}
}

// isICMP reports whether a packet that arrived is ICMP or ICMPv6, without extension headers
// (a [Receiver] leaves them out).
func isICMP(p []byte) bool {
	return len(p) >= 20 && (p[0]>>4 == 4 && p[9] == packet.ProtoICMP || p[0]>>4 == 6 && p[6] == packet.ProtoICMPv6)
}

// hear takes an ICMP or ICMPv6 message which says that a packet was too long, and reports
// whether p is one. It is believed where it quotes a packet that an SA can have sent.
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

// A quoted packet is the beginning of one that was too long.
type quoted struct {
	packet.Header
	size int    // of the whole
	rest []byte // what is there behind its IP header
}

// parseQuoted reads the beginning of a packet, which may end anywhere. It writes into its
// length.
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

// name returns SAID and sequence number of the outermost SA of a quoted packet, and the
// ports of UDP around it, both 0 without.
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

// sender returns the SA that can have sent a quoted packet, nil if none can.
func (e *Engine) sender(q *quoted) *sadb.SA {
	id, seq, sport, dport, ok := q.name()
	if !ok || !q.DF || !e.host.IsLocal(q.Src) {
		return nil // without DF it would have been cut
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
	// Numbers of 64 bits show their low half.
	last := sa.Seq.Load()
	if ago := uint64(uint32(last) - seq); ago >= last || ago >= 1<<31 {
		return nil
	}
	return sa
}

// learn keeps the path MTU of the SA that has sent a quoted packet.
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
		return // it says nothing that is not known
	}
	p.Store(&pathMTU{mtu, now + int64(pathMTUAge)})
	if e.trace.on(klips.DebugTunnel, allBits) {
		e.trace.line("tunnel", "a smaller path MTU", slog.String("said", sa.ID.String()), slog.Int("mtu", mtu))
	}
}

// plateau is what a path is taken to carry on which a packet was too long, where the router
// does not say (RFC 1191 section 7.1).
func plateau(size int) int {
	for _, mtu := range [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006} {
		if mtu < size {
			return mtu
		}
	}
	return minMTU4
}
